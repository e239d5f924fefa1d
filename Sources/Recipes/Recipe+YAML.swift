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
        var result: [String: String] = [:]
        func text(_ value: ConfigTree.Value) -> String {
            switch value {
            case .scalar(let text, _, _): text
            case .list(let values, _): "[" + values.map(text).joined(separator: ", ") + "]"
            case .map(let keys, _): "{" + keys.keys.sorted().map { "\($0): \(text(keys[$0]!))" }.joined(separator: ", ") + "}"
            }
        }
        func walk(_ value: ConfigTree.Value, _ path: String) {
            guard case .map(let keys, _) = value else {
                result[path] = text(value)
                return
            }
            for (key, value) in keys { walk(value, path.isEmpty ? key : "\(path).\(key)") }
        }
        var tree = ConfigTree()
        guard (try? tree.merge(yaml: yaml, name: "recipe")) != nil else { preconditionFailure("a recipe's YAML is none") }
        for (key, value) in tree.root { walk(value, key) }
        return result
    }

    /// All keys a recipe knows, as `section.key`, with the origin of those that were set.
    package static func origins(_ tree: ConfigTree) -> [(key: String, origin: Origin)] {
        var result: [(String, Origin)] = []
        func walk(_ value: ConfigTree.Value, _ path: String) {
            if case .map(let keys, _) = value {
                for key in keys.keys.sorted() { walk(keys[key]!, "\(path).\(key)") }
            } else {
                result.append((path, value.origin))
            }
        }
        for key in tree.root.keys.sorted() { walk(tree.root[key]!, key) }
        return result
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
