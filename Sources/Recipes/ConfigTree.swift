import Foundation
import Yams

/// A configuration as read: nested keys with the origin of every value; later sources win.
package struct ConfigTree: Sendable {
    package indirect enum Value: Sendable {
        /// A scalar's text, and whether it was quoted (a quoted text is never a number or null).
        case scalar(String, quoted: Bool, Origin)
        case list([Value], Origin)
        case map([String: Value], Origin)

        package var origin: Origin {
            switch self {
            case .scalar(_, _, let origin), .list(_, let origin), .map(_, let origin): origin
            }
        }
    }

    package private(set) var root: [String: Value] = [:]
    private static let deepest = 16

    package init() {}

    /// What has been set, as `section.key` with its value, in order.
    package var leaves: [(key: String, value: Value)] {
        func leaves(_ keys: [String: Value], under path: String) -> [(key: String, value: Value)] {
            keys.sorted { $0.key < $1.key }.flatMap { key, value in
                if case .map(let inner, _) = value { return leaves(inner, under: "\(path)\(key).") }
                return [(path + key, value)]
            }
        }
        return leaves(root, under: "")
    }

    /// Adds a YAML file's keys over what is there.
    ///
    /// - Throws: `RecipeError` with the file and line.
    package mutating func merge(file: String) throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: file, isDirectory: &isFolder) else {
            throw RecipeError.unreadable(
                file: file, reason: "there is no such recipe; an override is written key.path=value")
        }
        if isFolder.boolValue { throw RecipeError.unreadable(file: file, reason: "is a folder; name a YAML file") }
        guard let data = FileManager.default.contents(atPath: file) else {
            throw RecipeError.unreadable(file: file, reason: "cannot be read; check its owner and permissions")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw RecipeError.syntax(file: file, line: 1, reason: "not UTF-8 text; is it a recipe?")
        }
        try merge(yaml: text, name: file)
    }

    package mutating func merge(yaml text: String, name: String) throws {
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw Self.syntaxError(error, name, text)
        }
        guard let node else { return }
        if case .scalar(let scalar) = node, scalar.string.isEmpty { return }
        guard case .map(let keys, _) = try Self.value(node, file: name, path: "", depth: 0) else {
            throw RecipeError.syntax(file: name, line: node.mark?.line ?? 1, reason: "expected keys, such as 'data:'")
        }
        root = Self.merged(root, keys)
    }

    /// Adds one `key.path=value`; the value is YAML (`[1, 2]` is a list).
    package mutating func merge(override text: String) throws {
        guard let split = text.firstIndex(of: "="), split != text.startIndex else {
            throw RecipeError.badOverride(text)
        }
        let path = text[..<split].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard path.allSatisfy({ !$0.isEmpty }), path.count <= Self.deepest else { throw RecipeError.badOverride(text) }
        let right = String(text[text.index(after: split)...])
        var value: Value
        do {
            let node = try Yams.compose(yaml: right) ?? Node("")
            value = Self.restamped(try Self.value(node, file: "", path: "", depth: 0))
        } catch {
            throw RecipeError.badOverride(text)
        }
        for key in path.dropFirst().reversed() { value = .map([key: value], .override) }
        root = Self.merged(root, [path[0]: value])
    }

    private static func syntaxError(_ error: YamlError, _ name: String, _ text: String) -> RecipeError {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            .syntax(file: name, line: mark.line, reason: problem)
        case .duplicatedKeysInMapping(let duplicates, let context):
            duplicate(duplicates.first ?? "?", first: context.mark, name, text)
        case .reader(let problem, _, _, _): .syntax(file: name, line: 1, reason: problem)
        default: .syntax(file: name, line: 1, reason: "\(error)")
        }
    }

    /// The parser only tells where the key stands first; the second one is looked for at the same column.
    private static func duplicate(_ key: String, first: Mark, _ name: String, _ text: String) -> RecipeError {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let second = lines.indices.dropFirst(first.line).first {
            lines[$0].prefix { $0 == " " }.count == first.column - 1
                && lines[$0].dropFirst(first.column - 1).hasPrefix("\(key):")
        }
        guard let second else {
            return .syntax(file: name, line: first.line, reason: "key '\(key)' appears twice")
        }
        return .syntax(
            file: name, line: second + 1, reason: "key '\(key)' appears twice, first in line \(first.line)")
    }

    private static func value(_ node: Node, file: String, path: String, depth: Int) throws -> Value {
        let origin = Origin.file(file, line: node.mark?.line ?? 1)
        guard depth <= deepest else {
            throw RecipeError.syntax(file: file, line: node.mark?.line ?? 1, reason: "nested too deeply")
        }
        switch node {
        case .scalar(let scalar):
            return .scalar(scalar.string, quoted: scalar.style == .singleQuoted || scalar.style == .doubleQuoted, origin)
        case .sequence(let sequence):
            return .list(try sequence.map { try value($0, file: file, path: path, depth: depth + 1) }, origin)
        case .mapping(let mapping):
            var keys: [String: Value] = [:]
            for (key, child) in mapping {
                guard case .scalar(let name) = key else {
                    throw RecipeError.syntax(file: file, line: key.mark?.line ?? 1, reason: "a key must be a plain word")
                }
                let full = path.isEmpty ? name.string : "\(path).\(name.string)"
                if keys[name.string] != nil {
                    throw RecipeError.duplicateKey(key: full, origin: .file(file, line: key.mark?.line ?? 1))
                }
                keys[name.string] = try value(child, file: file, path: full, depth: depth + 1)
            }
            return .map(keys, origin)
        case .alias:
            throw RecipeError.syntax(file: file, line: node.mark?.line ?? 1, reason: "aliases are not supported")
        }
    }

    private static func restamped(_ value: Value) -> Value {
        switch value {
        case .scalar(let text, let quoted, _): .scalar(text, quoted: quoted, .override)
        case .list(let values, _): .list(values.map(restamped), .override)
        case .map(let keys, _): .map(keys.mapValues(restamped), .override)
        }
    }

    private static func merged(_ old: [String: Value], _ new: [String: Value]) -> [String: Value] {
        old.merging(new) { old, new in
            if case .map(let a, _) = old, case .map(let b, let origin) = new { return .map(merged(a, b), origin) }
            return new
        }
    }
}
