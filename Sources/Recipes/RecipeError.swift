/// A place in a configuration: a file with a line, an override on the command line, or the built-in default.
package enum Origin: Sendable, Equatable, CustomStringConvertible {
    case file(String, line: Int)
    case override
    case builtIn

    package var description: String {
        switch self {
        case .file(let file, let line): "\(file):\(line)"
        case .override: "command line"
        case .builtIn: "default"
        }
    }
}

/// What is wrong with a configuration, where, and what to do.
package enum RecipeError: Error, Equatable, CustomStringConvertible {
    case unreadable(file: String, reason: String)
    case syntax(file: String, line: Int, reason: String)
    case unknownKey(key: String, origin: Origin, suggestion: String?)
    /// A key that does not go with another one's value, `owner`; with that the keys are `keys`.
    case foreignKey(key: String, origin: Origin, owner: String, keys: [String])
    case derivedKey(key: String, origin: Origin)
    case duplicateKey(key: String, origin: Origin)
    case wrongValue(key: String, value: String, expected: String, origin: Origin)
    case missing(key: String, why: String)
    case badOverride(String)

    package var description: String {
        switch self {
        case .unreadable(let file, let reason): "\(file): \(reason)"
        case .syntax(let file, let line, let reason): "\(file):\(line): \(reason)"
        case .unknownKey(let key, let origin, let suggestion):
            "\(origin): unknown key '\(key)'" + (suggestion.map { "; did you mean '\($0)'?" } ?? "")
        case .foreignKey(let key, let origin, let owner, let keys):
            "\(origin): unknown key '\(key)'; with '\(owner)' the keys are \(keys.joined(separator: ", "))"
        case .derivedKey(let key, let origin):
            "\(origin): '\(key)' is counted from the data and cannot be set; remove it"
        case .duplicateKey(let key, let origin): "\(origin): key '\(key)' appears twice"
        case .wrongValue(let key, let value, let expected, let origin):
            "\(origin): \(key) = \(value): expected \(expected)"
        case .missing(let key, let why): "missing key '\(key)': \(why)"
        case .badOverride(let text): "'\(text)' is not an override; write key.path=value"
        }
    }
}
