package import Tensors

/// The element types of the safetensors format that fill whole bytes.
package enum SafetensorsType: String, Sendable, CaseIterable {
    case bool = "BOOL"
    case uint8 = "U8"
    case int8 = "I8"
    case float8e5m2 = "F8_E5M2"
    case float8e4m3 = "F8_E4M3"
    case uint16 = "U16"
    case int16 = "I16"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case uint32 = "U32"
    case int32 = "I32"
    case float32 = "F32"
    case uint64 = "U64"
    case int64 = "I64"
    case float64 = "F64"

    package init(_ dtype: DType) {
        self =
            switch dtype {
            case .float32: .float32
            case .bfloat16: .bfloat16
            case .float64: .float64
            case .int32: .int32
            case .int64: .int64
            case .uint8: .uint8
            }
    }

    package var byteCount: Int {
        switch self {
        case .bool, .uint8, .int8, .float8e5m2, .float8e4m3: 1
        case .uint16, .int16, .float16, .bfloat16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        }
    }

    /// The type of the tensor that a reader gets: F16 becomes fp32; nil for types that Acuity does not compute with.
    package var tensorType: DType? {
        switch self {
        case .float16, .float32: .float32
        case .bfloat16: .bfloat16
        case .float64: .float64
        case .int32: .int32
        case .int64: .int64
        case .uint8: .uint8
        case .bool, .int8, .float8e5m2, .float8e4m3, .uint16, .int16, .uint32, .uint64: nil
        }
    }
}

/// What a tensor is called and looks like.
package struct TensorSpec: Sendable, Equatable {
    package let name: String
    package let shape: [Int]
    package let dtype: DType

    package init(_ name: String, _ shape: [Int], _ dtype: DType = .float32) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }

    package var byteCount: Int { shape.reduce(dtype.byteCount, *) }
}

extension Tensor {
    /// The values as fp32, from fp32 (the same memory), bf16 or fp64 (rounded); nil from integers.
    package func asFloat32() -> Tensor? {
        switch dtype {
        case .float32: return self
        case .bfloat16:
            let result = Tensor(shape)
            let source = UnsafeRawBufferPointer(bytes)
            let target = result.floats
            for i in 0..<count {
                let half = source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
                target[i] = Float(bitPattern: UInt32(half) << 16)
            }
            return result
        case .float64:
            let result = Tensor(shape)
            let (source, target) = (doubles, result.floats)
            for i in 0..<count { target[i] = Float(source[i]) }
            return result
        case .int32, .int64, .uint8: return nil
        }
    }
}
