internal import Tensors

/// Memory that image operators use again from call to call, so that a pipeline allocates nothing but the images
/// themselves. One thread at a time.
package final class ImageScratch {
    private var byteBlock = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)
    private var integerBlock = UnsafeMutableBufferPointer<Int32>(start: nil, count: 0)
    private var floatBlock = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)

    package init() {}

    deinit {
        byteBlock.deallocate()
        integerBlock.deallocate()
        floatBlock.deallocate()
    }

    /// Room for `count` values of undefined content; valid until the next call for the same type.
    func bytes(_ count: Int) -> UnsafeMutablePointer<UInt8> { Self.room(&byteBlock, count) }
    func integers(_ count: Int) -> UnsafeMutablePointer<Int32> { Self.room(&integerBlock, count) }
    func floats(_ count: Int) -> UnsafeMutablePointer<Float> { Self.room(&floatBlock, count) }

    private static func room<T: BitwiseCopyable>(
        _ block: inout UnsafeMutableBufferPointer<T>, _ count: Int
    ) -> UnsafeMutablePointer<T> {
        if block.count < count || block.baseAddress == nil {
            let size = max(count, 2 * block.count, 1)
            block.deallocate()
            block = .allocate(capacity: size)
        }
        return block.baseAddress!
    }
}

/// As many scratches as threads ask for at the same time.
package final class ImageScratchPool: @unchecked Sendable {
    private let monitor = Monitor()
    private var free: [ImageScratch] = []

    package init() {}

    package func with<Result>(_ body: (ImageScratch) -> Result) -> Result {
        let scratch = monitor.withLock { free.popLast() } ?? ImageScratch()
        defer { monitor.withLock { free.append(scratch) } }
        return body(scratch)
    }
}
