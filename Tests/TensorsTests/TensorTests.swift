import Tensors
import Testing

struct TensorTests {
    @Test func startsZeroAndAligned() {
        for count in [0, 1, 17, 1000, 2 << 20] {
            let tensor = Tensor([count])
            #expect(tensor.floats.allSatisfy { $0 == 0 })
            #expect(Int(bitPattern: tensor.buffer.base) % 64 == 0)
        }
        // Large buffers can be backed by huge pages.
        let large = AlignedBuffer(byteCount: 8 << 20)
        #expect(Int(bitPattern: large.base) % (2 << 20) == 0)
    }

    @Test func viewsShareMemory() {
        let tensor = Tensor([4, 3], (0..<12).map { Float($0) })
        let rows = tensor.rows(1..<3)
        #expect(rows.shape == [2, 3])
        #expect(Array(rows.floats) == [3, 4, 5, 6, 7, 8])
        rows.fill(-1)
        #expect(Array(tensor.floats) == [0, 1, 2, -1, -1, -1, -1, -1, -1, 9, 10, 11])
        let flat = tensor.reshaped([12])
        flat.floats[0] = 42
        #expect(tensor.floats[0] == 42)
        #expect(tensor.rows(2..<2).count == 0)
        let last = tensor.rows(3..<4).rows(0..<1)
        #expect(last.floats[2] == 11)
    }

    @Test func copiesDoNot() {
        let tensor = Tensor([2, 2], [1, 2, 3, 4])
        let copy = tensor.copy()
        copy.fill(0)
        #expect(Array(tensor.floats) == [1, 2, 3, 4])
        #expect(copy.shape == [2, 2] && copy.dtype == .float32)
        // A view's copy holds the view's bytes, not the buffer's first ones.
        let second = tensor.rows(1..<2).copy()
        #expect(Array(second.floats) == [3, 4])
    }

    @Test func elementTypes() {
        #expect(DType.allCases.map(\.byteCount) == [4, 2, 8, 4, 8, 1])
        let doubles = Tensor([3], dtype: .float64)
        doubles.doubles[2] = 0.1
        #expect(doubles.byteCount == 24 && doubles.bytes.count == 24 && doubles.doubles[2] == 0.1)
        let integers = Tensor([2, 5], dtype: .int64)
        integers.int64s[9] = .min
        let row = integers.rows(1..<2)
        #expect(row.int64s[4] == .min)
        #expect(Tensor([7], dtype: .uint8).byteCount == 7)
    }

    @Test func borrowedBuffersKeepTheirOwner() {
        let owner = AlignedBuffer(byteCount: 64)
        let view = AlignedBuffer(borrowing: owner.base + 16, byteCount: 16, owner: owner)
        let tensor = Tensor([4], buffer: view, byteOffset: 0)
        tensor.fill(2)
        let all = Tensor([16], buffer: owner, byteOffset: 0)
        #expect(all.floats.enumerated().allSatisfy { $1 == ($0 / 4 == 1 ? 2 : 0) })
    }

    @Test func imagesCheckTheirSize() {
        var image = RGBImage(width: 3, height: 2, fill: (1, 2, 3))
        #expect(image.pixels == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])
        image.pixels[17] = 9
        #expect(image != RGBImage(width: 3, height: 2, fill: (1, 2, 3)))
    }

    @Test func rangesCoverAllOnce() {
        for threads in 1...4 {
            let pool = ThreadPool(threads: threads)
            #expect(pool.threads == threads)
            for count in [0, 1, 2, 3, 7, 100] {
                let hits = Tensor([count])
                pool.forEachRange(count) { range in
                    for i in range { hits.floats[i] += 1 }
                }
                #expect(hits.floats.allSatisfy { $0 == 1 }, "\(count) over \(threads)")
            }
        }
        #expect(ThreadPool.availableProcessors >= 1)
    }
}
