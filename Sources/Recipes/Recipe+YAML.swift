import Yams

extension Recipe {
    /// The whole recipe with every default written out; reading it back gives the same recipe.
    package var yaml: String {
        Self.encoded(self, YAMLEncoder())
    }

    fileprivate static func encoded(_ value: some Encodable, _ encoder: YAMLEncoder) -> String {
        encoder.options.width = 120
        encoder.options.sortKeys = false
        guard let text = try? encoder.encode(value) else { preconditionFailure("a recipe has no YAML") }
        // The encoder writes 32 as 3.2e+1; texts that look like numbers are quoted and stay as they are.
        let scientific = /([:\-,] |\[)(-?[0-9.]+e[+-]?[0-9]+)(?=$|[,\]}])/.anchorsMatchLineEndings()
        return text.replacing(scientific) { match in
            let value = Double(match.2) ?? .nan
            return match.1 + (value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)")
        }
    }

    /// The keys whose values differ, in order; "-" where one of the two has none.
    package func changes(since former: Recipe) -> [(key: String, former: String, new: String)] {
        let (old, new) = (former.values, values)
        return Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }.sorted()
            .map { ($0, old[$0] ?? "-", new[$0] ?? "-") }
    }

    /// Every value as text, by its key.
    private var values: [String: String] {
        func text(_ value: ConfigTree.Value) -> String {
            switch value {
            case .scalar(let text, _, _): text
            case .list(let values, _): "[" + values.map(text).joined(separator: ", ") + "]"
            case .map(let keys, _): "{" + keys.keys.sorted().map { "\($0): \(text(keys[$0]!))" }.joined(separator: ", ") + "}"
            }
        }
        var tree = ConfigTree()
        guard (try? tree.merge(yaml: yaml, name: "recipe")) != nil else { preconditionFailure("a recipe's YAML is none") }
        return Dictionary(uniqueKeysWithValues: tree.leaves.map { ($0.key, text($0.value)) })
    }
}

extension HeadSection {
    /// All keys with their values in one line.
    package var summary: String {
        let encoder = YAMLEncoder()
        encoder.options.mappingStyle = .flow
        encoder.options.sequenceStyle = .flow
        return Recipe.encoded(self, encoder).split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }
}
