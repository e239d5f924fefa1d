/// The element types that tensors and files hold.
package enum DType: String, Sendable, CaseIterable {
    case float32, bfloat16, float64, int32, int64, uint8

    package var byteCount: Int {
        switch self {
        case .uint8: 1
        case .bfloat16: 2
        case .float32, .int32: 4
        case .float64, .int64: 8
        }
    }
}

/// A dense row-major array with reference semantics: copies share the memory.
package struct Tensor: @unchecked Sendable {
    package let buffer: AlignedBuffer
    /// Where the first element lies, in bytes from `buffer.base`.
    package let byteOffset: Int
    package let shape: [Int]
    package let dtype: DType

    /// Zeros in memory of its own.
    package init(_ shape: [Int], dtype: DType = .float32) {
        self.init(
            shape, dtype: dtype, buffer: AlignedBuffer(byteCount: shape.reduce(1, *) * dtype.byteCount), byteOffset: 0)
    }

    /// A view into a buffer.
    package init(_ shape: [Int], dtype: DType = .float32, buffer: AlignedBuffer, byteOffset: Int) {
        precondition(shape.allSatisfy { $0 >= 0 }, "negative extent in shape \(shape)")
        let bytes = shape.reduce(1, *) * dtype.byteCount
        precondition(
            byteOffset >= 0 && byteOffset + bytes <= buffer.byteCount,
            "tensor \(shape) at \(byteOffset) exceeds its buffer of \(buffer.byteCount) bytes")
        self.buffer = buffer
        self.byteOffset = byteOffset
        self.shape = shape
        self.dtype = dtype
    }

    /// Row-major values.
    package init(_ shape: [Int], _ values: [Float]) {
        self.init(shape)
        precondition(values.count == count, "\(values.count) values for shape \(shape)")
        _ = floats.update(fromContentsOf: values)
    }

    package var count: Int { shape.reduce(1, *) }
    package var byteCount: Int { count * dtype.byteCount }
    package var bytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: buffer.base + byteOffset, count: byteCount)
    }

    /// The elements; the tensor must be `.float32`. Valid as long as the tensor lives.
    package var floats: UnsafeMutableBufferPointer<Float> { elements(.float32) }
    package var doubles: UnsafeMutableBufferPointer<Double> { elements(.float64) }
    package var int64s: UnsafeMutableBufferPointer<Int64> { elements(.int64) }
    package var pointer: UnsafeMutablePointer<Float> { floats.baseAddress! }

    private func elements<T>(_ wanted: DType) -> UnsafeMutableBufferPointer<T> {
        precondition(dtype == wanted, "tensor holds \(dtype), not \(wanted)")
        let start = (buffer.base + byteOffset).assumingMemoryBound(to: T.self)
        return UnsafeMutableBufferPointer(start: start, count: count)
    }

    /// The same elements under another shape.
    package func reshaped(_ shape: [Int]) -> Tensor {
        precondition(shape.reduce(1, *) == count, "cannot reshape \(self.shape) to \(shape)")
        return Tensor(shape, dtype: dtype, buffer: buffer, byteOffset: byteOffset)
    }

    /// Rows `range` of the first axis, sharing memory.
    package func rows(_ range: Range<Int>) -> Tensor {
        precondition(!shape.isEmpty && range.lowerBound >= 0 && range.upperBound <= shape[0], "rows \(range) of \(shape)")
        let row = shape.dropFirst().reduce(1, *) * dtype.byteCount
        return Tensor(
            [range.count] + shape.dropFirst(), dtype: dtype, buffer: buffer,
            byteOffset: byteOffset + range.lowerBound * row)
    }

    /// A copy in memory of its own.
    package func copy() -> Tensor {
        let result = Tensor(shape, dtype: dtype)
        result.bytes.copyMemory(from: UnsafeRawBufferPointer(bytes))
        return result
    }

    package func fill(_ value: Float) { floats.update(repeating: value) }
}
