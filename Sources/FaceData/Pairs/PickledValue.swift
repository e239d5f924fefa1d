/// What a pickled set of pairs is made of.
enum PickledValue {
    case none
    case truth(Bool)
    case integer(Int)
    case bytes(ArraySlice<UInt8>)
    /// UTF-8.
    case text(ArraySlice<UInt8>)
    case tuple([PickledValue], depth: Int)
    case list(PickledList)
    case global(PickledGlobal)
    /// A NumPy element type.
    case element(PickledArray.Element)
    case array(PickledArray)

    var depth: Int {
        if case .tuple(_, let depth) = self { depth } else { 0 }
    }

    /// A short text or byte string.
    var ascii: String? {
        switch self {
        case .text(let content), .bytes(let content):
            content.count <= 16 ? String(validating: content, as: UTF8.self) : nil
        default: nil
        }
    }
}

extension PickleReader {
    typealias Value = PickledValue
}

/// Lists are filled after they were put into the memo, hence a reference.
final class PickledList {
    var values: [PickledValue] = []
}

/// A NumPy array in the making: one row of bytes or booleans.
final class PickledArray {
    enum Element {
        case byte, truth

        /// - Parameter code: NumPy's, as "u1" or "|b1".
        init?(_ code: String) {
            switch code {
            case "u1", "|u1": self = .byte
            case "b1", "|b1": self = .truth
            default: return nil
            }
        }
    }

    var element: Element?
    var content: ArraySlice<UInt8> = []
}

/// The only names that are recognised; none is ever called. NumPy 2 moved its core.
enum PickledGlobal {
    case encode, reconstruct, scalar, fromBuffer, ndarray, dtype

    init?(_ name: String) {
        switch name {
        case "_codecs.encode": self = .encode
        case "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct": self = .reconstruct
        case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar": self = .scalar
        case "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer": self = .fromBuffer
        case "numpy.ndarray": self = .ndarray
        case "numpy.dtype": self = .dtype
        default: return nil
        }
    }
}
