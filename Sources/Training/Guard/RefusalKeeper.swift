import Layers
import Objectives
import Tensors

/// What forward changes before an update is known to be good: running statistics, and the head's moving averages. Kept
/// before each update where one may be left out.
final class RefusalKeeper {
    private let buffers: [StateBuffer]
    private let head: MarginClassification
    private let copy: UnsafeMutableRawBufferPointer
    private var statistics: [String: Double] = [:]

    init(_ buffers: [StateBuffer], _ head: MarginClassification) {
        self.buffers = buffers
        self.head = head
        copy = .allocate(byteCount: max(1, buffers.reduce(0) { $0 + $1.value.bytes.count }), alignment: 64)
    }

    deinit { copy.deallocate() }

    func keep() {
        var start = 0
        for buffer in buffers {
            let bytes = UnsafeRawBufferPointer(buffer.value.bytes)
            UnsafeMutableRawBufferPointer(rebasing: copy[start..<start + bytes.count]).copyMemory(from: bytes)
            start += bytes.count
        }
        statistics = head.classifier.margin.statistics
    }

    func restore() {
        var start = 0
        for buffer in buffers {
            let bytes = buffer.value.bytes
            bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: copy[start..<start + bytes.count]))
            start += bytes.count
        }
        if !statistics.isEmpty { head.classifier.margin.statistics = statistics }
    }
}
