/// Reads the one thing that verification sets are pickled as: a pair of a list of encoded images and a list of truth
/// values. It runs no code: a fixed set of opcodes, of names that are recognised and never called, and bounds on depth
/// and memory. Everything else is refused with its opcode and byte offset.
///
/// Byte strings are slices of the file. Images may be byte strings of any protocol, text that stands for bytes
/// (`_codecs.encode(text, "latin1")`, Python 3 at protocol 2), or one-dimensional NumPy arrays of bytes; truth values may be
/// booleans, 0 and 1, NumPy booleans, or one NumPy array of them.
struct PickleReader {
    struct Refusal: Error, Equatable {
        /// Of the opcode.
        let offset: Int
        let reason: String
    }

    /// Values on the stack, in the memo, and in lists together.
    private static let mostValues = 1 << 20
    private static let longestTuple = 16
    private static let deepestTuple = 6
    private static let longestLine = 256

    private let bytes: [UInt8]
    private var position = 0
    /// Where the opcode at work begins.
    private var opcodeOffset = 0
    private var stack: [Value] = []
    private var marks: [Int] = []
    private var memo: [UInt32: Value] = [:]
    private var listed = 0
    /// Bytes that text conversions made; each is a copy, so that their sum is held against the file's size.
    private var copied = 0

    static func pairs(_ bytes: [UInt8]) throws(Refusal) -> (images: [ArraySlice<UInt8>], same: [Bool]) {
        var reader = PickleReader(bytes)
        return try reader.run()
    }

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    private mutating func run() throws(Refusal) -> (images: [ArraySlice<UInt8>], same: [Bool]) {
        while true {
            opcodeOffset = position
            let opcode = try byte()
            if opcode == 0x2E {  // STOP
                guard stack.count == 1, marks.isEmpty, case .tuple(let parts, _) = stack[0], parts.count == 2 else {
                    throw refusal("does not end with a pair of (images, truth values)")
                }
                return (try images(parts[0]), try truths(parts[1]))
            }
            try step(opcode)
            guard stack.count <= Self.mostValues, memo.count <= Self.mostValues, listed <= Self.mostValues else {
                throw refusal("more than \(Self.mostValues) values")
            }
        }
    }

    private mutating func step(_ opcode: UInt8) throws(Refusal) {
        switch opcode {
        case 0x80:  // PROTO
            let version = try byte()
            guard version <= 5 else { throw refusal("pickle protocol \(version)") }
        case 0x95: _ = try integer(8)  // FRAME
        case 0x28: marks.append(stack.count)  // MARK
        case 0x5D: stack.append(.list(PickledList()))  // EMPTY_LIST
        case 0x29: try pushTuple([])  // EMPTY_TUPLE
        case 0x85: try pushTuple(try pop(1))  // TUPLE1
        case 0x86: try pushTuple(try pop(2))  // TUPLE2
        case 0x87: try pushTuple(try pop(3))  // TUPLE3
        case 0x74: try pushTuple(try popToMark())  // TUPLE
        case 0x61: try append(try pop(1))  // APPEND
        case 0x65: try append(try popToMark())  // APPENDS
        case 0x4E: stack.append(.none)  // NONE
        case 0x88: stack.append(.truth(true))  // NEWTRUE
        case 0x89: stack.append(.truth(false))  // NEWFALSE
        case 0x4B: stack.append(.integer(Int(try byte())))  // BININT1
        case 0x4D: stack.append(.integer(try integer(2)))  // BININT2
        case 0x4A: stack.append(.integer(Int(Int32(truncatingIfNeeded: try integer(4)))))  // BININT
        case 0x49: stack.append(try textInteger())  // INT
        case 0x55, 0x43: stack.append(.bytes(try take(Int(try byte()))))  // SHORT_BINSTRING, SHORT_BINBYTES
        case 0x54, 0x42: stack.append(.bytes(try take(try integer(4))))  // BINSTRING, BINBYTES
        case 0x8E, 0x96: stack.append(.bytes(try take(try integer(8))))  // BINBYTES8, BYTEARRAY8
        case 0x8C: stack.append(.text(try take(Int(try byte()))))  // SHORT_BINUNICODE
        case 0x58: stack.append(.text(try take(try integer(4))))  // BINUNICODE
        case 0x71: memo[UInt32(try byte())] = try top()  // BINPUT
        case 0x72: memo[UInt32(truncatingIfNeeded: try integer(4))] = try top()  // LONG_BINPUT
        case 0x94: memo[UInt32(memo.count)] = try top()  // MEMOIZE
        case 0x68: try recall(UInt32(try byte()))  // BINGET
        case 0x6A: try recall(UInt32(truncatingIfNeeded: try integer(4)))  // LONG_BINGET
        case 0x63: try pushGlobal(try line(), try line())  // GLOBAL
        case 0x93:  // STACK_GLOBAL
            let names = try pop(2)
            guard case .text(let module) = names[0], case .text(let name) = names[1] else {
                throw refusal("STACK_GLOBAL without two names")
            }
            try pushGlobal(module, name)
        case 0x52:  // REDUCE
            let call = try pop(2)
            stack.append(try reduce(call[0], call[1]))
        case 0x62:  // BUILD
            let state = try pop(1)[0]
            try build(try top(), state)
        default:
            throw refusal("opcode 0x\(String(opcode, radix: 16)) is not one that a set of pairs needs")
        }
    }

    // MARK: The stack

    private func refusal(_ reason: String) -> Refusal { Refusal(offset: opcodeOffset, reason: reason) }

    private func top() throws(Refusal) -> Value {
        guard stack.count > (marks.last ?? 0) else { throw refusal("nothing on the stack") }
        return stack[stack.count - 1]
    }

    private mutating func pop(_ count: Int) throws(Refusal) -> [Value] {
        guard stack.count - count >= (marks.last ?? 0) else { throw refusal("too little on the stack") }
        let values = Array(stack.suffix(count))
        stack.removeLast(count)
        return values
    }

    private mutating func popToMark() throws(Refusal) -> [Value] {
        guard let mark = marks.popLast() else { throw refusal("no mark on the stack") }
        let values = Array(stack[mark...])
        stack.removeSubrange(mark...)
        return values
    }

    private mutating func pushTuple(_ values: [Value]) throws(Refusal) {
        guard values.count <= Self.longestTuple else {
            throw refusal("a tuple of \(values.count) values")
        }
        let depth = 1 + (values.map(\.depth).max() ?? 0)
        guard depth <= Self.deepestTuple else { throw refusal("tuples nested deeper than \(Self.deepestTuple)") }
        stack.append(.tuple(values, depth: depth))
    }

    /// Lists hold no containers: neither cycles nor deep nesting can arise.
    private mutating func append(_ values: [Value]) throws(Refusal) {
        guard case .list(let list) = try top() else { throw refusal("appends to what is no list") }
        for value in values {
            if case .list = value { throw refusal("a list inside a list") }
            if case .tuple = value { throw refusal("a tuple inside a list") }
        }
        list.values += values
        listed += values.count
    }

    private mutating func recall(_ key: UInt32) throws(Refusal) {
        guard let value = memo[key] else { throw refusal("memo entry \(key) was never stored") }
        stack.append(value)
    }

    // MARK: The bytes

    private mutating func byte() throws(Refusal) -> UInt8 {
        guard position < bytes.count else { throw refusal("the file ends in the middle: it is truncated") }
        defer { position += 1 }
        return bytes[position]
    }

    private mutating func take(_ count: Int) throws(Refusal) -> ArraySlice<UInt8> {
        guard count >= 0, count <= bytes.count - position else {
            throw refusal("announces \(count) bytes where \(bytes.count - position) are left")
        }
        defer { position += count }
        return bytes[position..<position + count]
    }

    /// Little-endian, of 2, 4 or 8 bytes; as a negative number when it exceeds Int.
    private mutating func integer(_ size: Int) throws(Refusal) -> Int {
        let word = try take(size).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return Int(truncatingIfNeeded: word)
    }

    private mutating func line() throws(Refusal) -> ArraySlice<UInt8> {
        let end = min(bytes.count, position + Self.longestLine)
        guard let stop = bytes[position..<end].firstIndex(of: 0x0A) else { throw refusal("a line without end") }
        defer { position = stop + 1 }
        return bytes[position..<stop]
    }

    private mutating func textInteger() throws(Refusal) -> Value {
        let text = String(decoding: try line(), as: UTF8.self)
        switch text {
        case "01": return .truth(true)
        case "00": return .truth(false)
        default:
            guard let value = Int(text) else { throw refusal("\"\(text.prefix(20))\" is not an integer") }
            return .integer(value)
        }
    }

    // MARK: Names

    private mutating func pushGlobal(_ module: ArraySlice<UInt8>, _ name: ArraySlice<UInt8>) throws(Refusal) {
        let full = String(decoding: module, as: UTF8.self) + "." + String(decoding: name, as: UTF8.self)
        guard let global = PickledGlobal(full) else {
            throw refusal("the name \(full.prefix(100)) is refused: a set of pairs runs no code")
        }
        stack.append(.global(global))
    }

    private mutating func reduce(_ function: Value, _ argument: Value) throws(Refusal) -> Value {
        guard case .global(let global) = function, case .tuple(let arguments, _) = argument else {
            throw refusal("a call of what is no known name")
        }
        switch global {
        case .encode:
            guard arguments.count == 2, case .text(let text) = arguments[0], let encoding = arguments[1].ascii,
                encoding == "latin1" || encoding == "latin-1"
            else { throw refusal("_codecs.encode of something else than text to latin1") }
            copied += text.count
            guard copied <= bytes.count, let converted = Self.latin1(text) else {
                throw refusal("text that does not stand for bytes")
            }
            return .bytes(converted)
        case .dtype:
            guard let code = arguments.first?.ascii, let element = PickledArray.Element(code) else {
                throw refusal("a NumPy type other than bytes and booleans")
            }
            return .element(element)
        case .reconstruct:
            guard arguments.count == 3, case .global(.ndarray) = arguments[0] else {
                throw refusal("an array of an unknown kind")
            }
            return .array(PickledArray())
        case .fromBuffer:
            guard arguments.count == 4, case .bytes(let content) = arguments[0],
                case .element(let element) = arguments[1]
            else { throw refusal("an array without content and type") }
            let array = PickledArray()
            try fill(array, content, element, shape: arguments[2])
            return .array(array)
        case .scalar:
            guard arguments.count == 2, case .element(.truth) = arguments[0], case .bytes(let content) = arguments[1],
                content.count == 1
            else { throw refusal("a NumPy scalar that is no boolean") }
            return .truth(content.first != 0)
        case .ndarray: throw refusal("a call of numpy.ndarray")
        }
    }

    private func build(_ object: Value, _ state: Value) throws(Refusal) {
        switch (object, state) {
        case (.element, .tuple): return  // A type's byte order and flags say nothing about single bytes.
        case (.array(let array), .tuple(let parts, _)):
            guard parts.count == 5, case .element(let element) = parts[2], case .bytes(let content) = parts[4] else {
                throw refusal("an array's state is not (version, shape, type, order, bytes)")
            }
            try fill(array, content, element, shape: parts[1])
        default: throw refusal("BUILD of what is no NumPy array or type")
        }
    }

    private func fill(
        _ array: PickledArray, _ content: ArraySlice<UInt8>, _ element: PickledArray.Element, shape: Value
    ) throws(Refusal) {
        guard case .tuple(let extents, _) = shape else { throw refusal("an array without a shape") }
        var lengths: [Int] = []
        for extent in extents {
            guard case .integer(let length) = extent else { throw refusal("an array whose shape holds no integers") }
            if length != 1 { lengths.append(length) }
        }
        guard lengths == [content.count] || lengths.isEmpty && content.count == 1 else {
            throw refusal("an array of \(content.count) bytes that is not a row of as many")
        }
        array.content = content
        array.element = element
    }

    private static func latin1(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard let string = String(validating: text, as: UTF8.self) else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for scalar in string.unicodeScalars {
            guard let byte = UInt8(exactly: scalar.value) else { return nil }
            result.append(byte)
        }
        return result[...]
    }

    // MARK: The result

    private func images(_ value: Value) throws(Refusal) -> [ArraySlice<UInt8>] {
        guard case .list(let list) = value else { throw refusal("the images are not a list") }
        var images: [ArraySlice<UInt8>] = []
        images.reserveCapacity(list.values.count)
        for value in list.values {
            switch value {
            case .bytes(let content): images.append(content)
            case .array(let array) where array.element == .byte: images.append(array.content)
            default: throw refusal("image \(images.count) is neither a byte string nor an array of bytes")
            }
        }
        return images
    }

    private func truths(_ value: Value) throws(Refusal) -> [Bool] {
        if case .array(let array) = value, array.element == .truth { return array.content.map { $0 != 0 } }
        guard case .list(let list) = value else { throw refusal("the truth values are not a list") }
        var truths: [Bool] = []
        truths.reserveCapacity(list.values.count)
        for value in list.values {
            switch value {
            case .truth(let truth): truths.append(truth)
            case .integer(0): truths.append(false)
            case .integer(1): truths.append(true)
            default: throw refusal("entry \(truths.count) of the truth values is neither true nor false")
            }
        }
        return truths
    }
}
