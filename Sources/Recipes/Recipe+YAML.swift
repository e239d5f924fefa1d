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
