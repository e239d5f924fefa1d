/// Reads one section of a configuration key by key, with defaults and checks, and notices keys nobody asked for.
struct SectionReader {
    let path: String
    private let values: [String: ConfigTree.Value]
    private let origin: Origin
    private var known: [String] = []

    init(path: String, values: [String: ConfigTree.Value], origin: Origin) {
        self.path = path
        self.values = values
        self.origin = origin
    }

    func has(_ key: String) -> Bool { values[key] != nil && !isNull(values[key]!) }
    /// The key is there, but says null: for what can be switched off.
    func isWrittenNull(_ key: String) -> Bool { values[key].map(isNull) ?? false }
    func origin(_ key: String) -> Origin { values[key]?.origin ?? .builtIn }
    func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    private func isNull(_ value: ConfigTree.Value) -> Bool {
        if case .scalar(let text, let quoted, _) = value { return !quoted && ["", "~", "null"].contains(text) }
        return false
    }

    func error(_ key: String, expected: String) -> RecipeError {
        .wrongValue(
            key: full(key), value: values[key].map(Self.shown) ?? "(missing)", expected: expected, origin: origin(key))
    }

    private static func shown(_ value: ConfigTree.Value) -> String {
        switch value {
        case .scalar(let text, _, _): text
        case .list(let values, _): "[" + values.map(shown).joined(separator: ", ") + "]"
        case .map: "{…}"
        }
    }

    // MARK: - Values

    mutating func section(_ key: String) throws -> SectionReader {
        known.append(key)
        guard has(key) else { return SectionReader(path: full(key), values: [:], origin: .builtIn) }
        guard case .map(let keys, let origin) = values[key]! else { throw error(key, expected: "keys of its own") }
        return SectionReader(path: full(key), values: keys, origin: origin)
    }

    /// Whether a key that may be one value or several is several.
    func isList(_ key: String) -> Bool {
        if case .list? = values[key] { true } else { false }
    }

    /// - Parameter shorthand: the key that a plain text in the list is the value of, if texts may stand there.
    mutating func sections(_ key: String, shorthand: String? = nil) throws -> [SectionReader] {
        known.append(key)
        guard has(key) else { return [] }
        guard case .list(let items, _) = values[key]! else { throw error(key, expected: "a list ('- key: value')") }
        return try items.enumerated().map { index, item in
            let path = "\(full(key))[\(index)]"
            switch item {
            case .map(let keys, let origin): return SectionReader(path: path, values: keys, origin: origin)
            case .scalar(_, _, let origin):
                guard let shorthand else { throw error(key, expected: "a list of sections") }
                return SectionReader(path: path, values: [shorthand: item], origin: origin)
            case .list: throw error(key, expected: "a list of sections")
            }
        }
    }

    private mutating func scalar(_ key: String, _ expected: String) throws -> (text: String, quoted: Bool)? {
        known.append(key)
        guard has(key) else { return nil }
        guard case .scalar(let text, let quoted, _) = values[key]! else { throw error(key, expected: expected) }
        return (text, quoted)
    }

    /// An empty value, such as that of a variable nobody has set, must not silently mean the default.
    private func refuseNull(_ key: String) throws {
        if isWrittenNull(key) { throw error(key, expected: "a value") }
    }

    mutating func string(_ key: String) throws -> String? { try scalar(key, "a text")?.text }
    mutating func string(_ key: String, default value: String) throws -> String {
        try refuseNull(key)
        return try string(key) ?? value
    }

    mutating func integer(_ key: String, in range: ClosedRange<Int>) throws -> Int? {
        let expected =
            "a whole number from \(range.lowerBound)"
            + (range.upperBound == .max ? "" : " to \(range.upperBound)")
        guard let (text, quoted) = try scalar(key, expected) else { return nil }
        guard !quoted, let value = Int(text.filter { $0 != "_" }), range.contains(value) else {
            throw error(key, expected: expected)
        }
        return value
    }

    mutating func integer(_ key: String, default value: Int, in range: ClosedRange<Int>) throws -> Int {
        try refuseNull(key)
        return try integer(key, in: range) ?? value
    }

    mutating func number(_ key: String, in range: ClosedRange<Double>) throws -> Double? {
        let expected =
            range.upperBound == .greatestFiniteMagnitude
            ? "a number of at least \(range.lowerBound)" : "a number from \(range.lowerBound) to \(range.upperBound)"
        guard let (text, quoted) = try scalar(key, expected) else { return nil }
        guard !quoted, let value = Double(text), value.isFinite, range.contains(value) else {
            throw error(key, expected: expected)
        }
        return value
    }

    mutating func number(_ key: String, default value: Double, in range: ClosedRange<Double>) throws -> Double {
        try refuseNull(key)
        return try number(key, in: range) ?? value
    }

    mutating func bool(_ key: String, default value: Bool) throws -> Bool {
        try refuseNull(key)
        guard let (text, quoted) = try scalar(key, "true or false") else { return value }
        guard !quoted, text == "true" || text == "false" else { throw error(key, expected: "true or false") }
        return text == "true"
    }

    mutating func choice<T: RawRepresentable & CaseIterable>(
        _ key: String, default value: T, among choices: [T] = Array(T.allCases)
    ) throws -> T where T.RawValue == String {
        try refuseNull(key)
        let expected = "one of " + choices.map(\.rawValue).joined(separator: ", ")
        guard let (text, _) = try scalar(key, expected) else { return value }
        guard let choice = choices.first(where: { $0.rawValue == text }) else { throw error(key, expected: expected) }
        return choice
    }

    mutating func choice(_ key: String, default value: String, of choices: [String]) throws -> String {
        try refuseNull(key)
        let expected = "one of " + choices.joined(separator: ", ")
        guard let (text, _) = try scalar(key, expected) else { return value }
        guard choices.contains(text) else { throw error(key, expected: expected) }
        return text
    }

    mutating func strings(_ key: String, default value: [String]) throws -> [String] {
        known.append(key)
        guard has(key) else { return value }
        guard case .list(let items, _) = values[key]! else { throw error(key, expected: "a list, such as [a, b]") }
        return try items.map {
            guard case .scalar(let text, _, _) = $0 else { throw error(key, expected: "a list of texts") }
            return text
        }
    }

    mutating func integers(_ key: String, default value: [Int], in range: ClosedRange<Int>) throws -> [Int] {
        let texts = try strings(key, default: value.map(String.init))
        return try texts.map {
            guard let number = Int($0), range.contains(number) else {
                throw error(key, expected: "a list of whole numbers from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
    }

    /// Two numbers, the larger one last.
    mutating func interval(
        _ key: String, default value: ClosedRange<Double>, in range: ClosedRange<Double>
    ) throws -> ClosedRange<Double> {
        try refuseNull(key)
        let texts = try strings(key, default: [])
        guard has(key) else { return value }
        let bounds = texts.compactMap(Double.init)
        guard bounds.count == 2, texts.count == 2, bounds.allSatisfy(range.contains), bounds[0] <= bounds[1] else {
            throw error(
                key, expected: "two numbers from \(range.lowerBound) to \(range.upperBound), the smaller one first")
        }
        return bounds[0]...bounds[1]
    }

    /// A number, or two of which the larger one comes last.
    mutating func range(
        _ key: String, in bounds: ClosedRange<Double>, whole: Bool = false
    ) throws -> ClosedRange<Double>? {
        known.append(key)
        try refuseNull(key)
        guard has(key) else { return nil }
        let items: [ConfigTree.Value]
        if case .list(let list, _) = values[key]! { items = list } else { items = [values[key]!, values[key]!] }
        let numbers = items.compactMap { item -> Double? in
            guard case .scalar(let text, false, _) = item else { return nil }
            return Double(text)
        }
        guard items.count == 2, numbers.count == 2, numbers.allSatisfy(bounds.contains), numbers[0] <= numbers[1],
            !whole || numbers.allSatisfy({ $0 == $0.rounded() })
        else {
            func text(_ value: Double) -> String { whole ? "\(Int(value))" : "\(value)" }
            throw error(
                key,
                expected: "\(whole ? "a whole number" : "a number") from \(text(bounds.lowerBound)) to "
                    + "\(text(bounds.upperBound)), or [smallest, largest]")
        }
        return numbers[0]...numbers[1]
    }

    mutating func numbers(_ key: String) throws -> [String: Double] {
        known.append(key)
        guard has(key) else { return [:] }
        guard case .map(let entries, _) = values[key]! else { throw error(key, expected: "names with numbers") }
        return try entries.mapValues {
            guard case .scalar(let text, _, _) = $0, let number = Double(text), number >= 0, number.isFinite else {
                throw error(key, expected: "names with numbers of at least 0")
            }
            return number
        }
    }

    /// Seconds, or a number with s, m, h or d.
    mutating func duration(_ key: String) throws -> Double? {
        let expected = "a duration such as 90s, 10m, 1.5h"
        guard let (text, _) = try scalar(key, expected) else { return nil }
        let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        let factor = text.last.flatMap { units[$0] }
        guard let value = Double(factor == nil ? text : String(text.dropLast())), value > 0, value.isFinite else {
            throw error(key, expected: expected)
        }
        return value * (factor ?? 1)
    }

    // MARK: - Leftovers

    /// - Parameter owner: what the section's keys depend on, where they do.
    /// - Throws: `unknownKey` for the first key that was never read, with the nearest known one; `foreignKey` with all
    ///   known ones in a section with an owner.
    func finish(derived: [String] = [], owner: String? = nil) throws {
        for key in values.keys.sorted() where !known.contains(key) {
            if derived.contains(key) { throw RecipeError.derivedKey(key: full(key), origin: origin(key)) }
            if let owner {
                throw RecipeError.foreignKey(key: full(key), origin: origin(key), owner: owner, keys: known)
            }
            let nearest = known.map { ($0, Self.distance(key, $0)) }.min { $0.1 < $1.1 }
            let suggestion = nearest.flatMap { $0.1 <= max(2, key.count / 3) ? full($0.0) : nil }
            throw RecipeError.unknownKey(key: full(key), origin: origin(key), suggestion: suggestion)
        }
    }

    /// Levenshtein's edit distance.
    static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a)
        let b = Array(b)
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let above = row[j + 1]
                row[j + 1] = a[i] == b[j] ? diagonal : 1 + min(diagonal, above, row[j])
                diagonal = above
            }
        }
        return row[b.count]
    }
}
