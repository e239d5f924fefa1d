/// A strict reader of JSON text (RFC 8259) for untrusted bytes.
///
/// The caller asks for what it expects and gets it or an error, so nesting and memory are bounded by the caller's
/// schema. Stricter than the standard: a repeated key is an error, numbers are integers, text is valid UTF-8 without
/// lone surrogates.
struct JSONScanner {
    /// What is wrong, and at which byte of the text.
    struct Failure: Error, Equatable {
        let offset: Int
        let reason: String
    }

    private let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    func failure(_ reason: String, at offset: Int? = nil) -> Failure {
        Failure(offset: offset ?? position, reason: reason)
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
    }

    private mutating func expect(_ character: Character) throws {
        skipSpace()
        guard next == character.asciiValue else { throw failure("expected '\(character)', found \(found)") }
        position += 1
    }

    private var found: String {
        guard let byte = next else { return "the end of the text" }
        return byte > 0x20 && byte < 0x7F ? "'\(Character(Unicode.Scalar(byte)))'" : "byte \(byte)"
    }

    private mutating func accept(_ character: Character) -> Bool {
        skipSpace()
        guard next == character.asciiValue else { return false }
        position += 1
        return true
    }

    /// Nothing may follow but `padding` bytes.
    mutating func finish(padding: Set<UInt8>) throws {
        while let byte = next {
            guard padding.contains(byte) else { throw failure("\(found) after the end of the JSON text") }
            position += 1
        }
    }

    /// Reads an object; `member` reads the value of each key.
    mutating func object(_ member: (inout JSONScanner, String) throws -> Void) throws {
        try expect("{")
        if accept("}") { return }
        var keys = Set<String>()
        repeat {
            skipSpace()
            let start = position
            let key = try string()
            guard keys.insert(key).inserted else { throw failure("the key \(quoted(key)) is there twice", at: start) }
            try expect(":")
            try member(&self, key)
        } while accept(",")
        try expect("}")
    }

    /// Reads an array; `element` reads each element, given its index.
    mutating func array(_ element: (inout JSONScanner, Int) throws -> Void) throws {
        try expect("[")
        if accept("]") { return }
        var index = 0
        repeat {
            try element(&self, index)
            index += 1
        } while accept(",")
        try expect("]")
    }

    /// An integer that is not negative.
    mutating func count() throws -> Int {
        skipSpace()
        let start = position
        var value = 0
        while let byte = next, byte >= 0x30 && byte <= 0x39 {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow2) = product.addingReportingOverflow(Int(byte - 0x30))
            guard !overflow && !overflow2 else { throw failure("the number exceeds 63 bits", at: start) }
            value = sum
            position += 1
        }
        guard position > start else { throw failure("expected a whole number that is not negative, found \(found)") }
        guard bytes[start] != 0x30 || position == start + 1 else { throw failure("a number starts with 0", at: start) }
        if let byte = next, byte == 0x2E || byte == 0x65 || byte == 0x45 {
            throw failure("expected a whole number", at: start)
        }
        return value
    }

    mutating func counts(atMost limit: Int) throws -> [Int] {
        var values: [Int] = []
        try array { scanner, index in
            guard index < limit else { throw scanner.failure("more than \(limit) numbers in a list") }
            values.append(try scanner.count())
        }
        return values
    }

    mutating func string() throws -> String {
        try expect("\"")
        let start = position
        var text: [UInt8] = []
        var plain = position
        while let byte = next {
            switch byte {
            case 0x22:
                text += bytes[plain..<position]
                position += 1
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw failure("text that is not valid UTF-8", at: start)
                }
                return string
            case 0x5C:
                text += bytes[plain..<position]
                position += 1
                try escape(into: &text)
                plain = position
            case ..<0x20: throw failure("a control character in text")
            default: position += 1
            }
        }
        throw failure("text without an end", at: start)
    }

    private mutating func escape(into text: inout [UInt8]) throws {
        guard let byte = next else { throw failure("text without an end") }
        position += 1
        switch byte {
        case 0x22, 0x5C, 0x2F: text.append(byte)
        case 0x62: text.append(0x08)
        case 0x66: text.append(0x0C)
        case 0x6E: text.append(0x0A)
        case 0x72: text.append(0x0D)
        case 0x74: text.append(0x09)
        case 0x75: text += Array(String(Character(try escapedScalar())).utf8)
        default: throw failure("an unknown escape in text", at: position - 1)
        }
    }

    private mutating func escapedScalar() throws -> Unicode.Scalar {
        let start = position
        let first = try hexadecimal4()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xDC00, next == 0x5C, position + 1 < bytes.count, bytes[position + 1] == 0x75 else {
            throw failure("half of a surrogate pair in text", at: start)
        }
        position += 2
        let second = try hexadecimal4()
        guard second >= 0xDC00 && second < 0xE000,
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw failure("half of a surrogate pair in text", at: start) }
        return scalar
    }

    private mutating func hexadecimal4() throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw failure("expected four hexadecimal digits, found \(found)")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}

/// JSON text of the little that our headers need.
enum JSONText {
    static func string(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22: result += "\\\""
            case 0x5C: result += "\\\\"
            case ..<0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    static func counts(_ values: [Int]) -> String {
        "[" + values.map(String.init).joined(separator: ",") + "]"
    }
}
