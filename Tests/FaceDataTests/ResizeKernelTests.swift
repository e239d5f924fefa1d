import FaceData
import Foundation
import Tensors
import Testing

/// OpenCV's family against its formulas, in double precision and without tables.
@Suite struct ResizeKernelTests {
    private static let sizes: [((Int, Int), (Int, Int))] = [
        ((17, 13), (5, 4)), ((5, 4), (17, 13)), ((40, 40), (13, 29)), ((6, 6), (6, 10)), ((9, 7), (9, 3)),
        ((1, 1), (3, 2)), ((31, 2), (1, 5)), ((16, 16), (8, 8)),
    ]

    /// The weight of input sample `j` in output sample `i`, border samples standing for those beyond them.
    private func weights(_ kernel: ResizeKernel, _ i: Int, from input: Int, to output: Int) -> [Int: Double] {
        let scale = Double(input) / Double(output)
        let centre = (Double(i) + 0.5) * scale - 0.5
        let floor = Int(centre.rounded(.down))
        var taps: [(Int, Double)]
        switch kernel {
        case .nearest: taps = [(Int((Double(i) + 0.5) * scale), 1)]
        case .area where scale > 1:
            taps = (0..<input).map { j in
                let overlap = min(Double(j + 1), Double(i + 1) * scale) - max(Double(j), Double(i) * scale)
                return (j, max(0, overlap) / scale)
            }
        case .linear, .area: taps = (floor...floor + 1).map { ($0, 1 - abs(Double($0) - centre)) }
        case .cubic:
            taps = (floor - 1...floor + 2).map { j in
                let (t, a) = (abs(Double(j) - centre), -0.75)
                let near = (a + 2) * pow(t, 3) - (a + 3) * t * t + 1
                return (j, t <= 1 ? near : a * pow(t, 3) - 5 * a * t * t + 8 * a * t - 4 * a)
            }
        case .lanczos4:
            taps = (floor - 3...floor + 4).map { j in
                let d = Double(j) - centre
                return (j, d == 0 ? 1 : 4 * sin(.pi * d) * sin(.pi * d / 4) / pow(.pi * d, 2))
            }
            let sum = taps.reduce(0) { $0 + $1.1 }
            taps = taps.map { ($0.0, $0.1 / sum) }
        default: preconditionFailure("\(kernel) is Pillow's")
        }
        return Dictionary(taps.map { (max(0, min(input - 1, $0.0)), $0.1) }, uniquingKeysWith: +)
    }

    @Test(arguments: ResizeKernel.openCV) func openCVsFormulas(_ kernel: ResizeKernel) {
        for ((w, h), (tw, th)) in Self.sizes {
            let image = noise(w, h)
            let resized = image.resized(width: tw, height: th, kernel)
            var largest = 0.0
            for y in 0..<th {
                let rows = weights(kernel, y, from: h, to: th)
                for x in 0..<tw {
                    let columns = weights(kernel, x, from: w, to: tw)
                    for channel in 0..<3 {
                        var sum = 0.0
                        for (j, a) in rows {
                            for (i, b) in columns { sum += a * b * Double(image.pixels[3 * (j * w + i) + channel]) }
                        }
                        let found = Double(resized.pixels[3 * (y * tw + x) + channel])
                        largest = max(largest, abs(found - max(0, min(255, sum))))
                    }
                }
            }
            #expect(largest < 0.501, "\(w)x\(h) to \(tw)x\(th): \(largest)")
        }
    }

    @Test(arguments: ResizeKernel.allCases) func constantsStay(_ kernel: ResizeKernel) {
        let image = RGBImage(width: 29, height: 23, fill: (255, 0, 131))
        for (width, height) in [(7, 5), (112, 112), (29, 40), (1, 1), (3, 23)] {
            let resized = image.resized(width: width, height: height, kernel)
            #expect(resized == RGBImage(width: width, height: height, fill: (255, 0, 131)), "\(width)x\(height)")
        }
    }

    @Test(arguments: ResizeKernel.allCases) func theSameSizeIsTheSameImage(_ kernel: ResizeKernel) {
        let image = noise(12, 9)
        #expect(image.resized(width: 12, height: 9, kernel) == image)
    }

    /// Memory that was used for something else, and tables in use, change nothing.
    @Test(arguments: ResizeKernel.allCases) func scratchDoesNotShow(_ kernel: ResizeKernel) {
        let scratch = ImageScratch()
        let image = noise(37, 41)
        let expected = image.resized(width: 14, height: 60, kernel)
        for (width, height) in [(90, 80), (3, 2), (37, 10), (14, 60)] {
            _ = noise(50, 33).resized(width: width, height: height, kernel, scratch: scratch)
            #expect(image.resized(width: 14, height: 60, kernel, scratch: scratch) == expected)
        }
    }

    @Test func theFamilies() {
        let all = Set(ResizeKernel.antialiased + ResizeKernel.openCV)
        #expect(all == Set(ResizeKernel.allCases))
        #expect(ResizeKernel.allCases.filter(\.isAntialiased) == ResizeKernel.antialiased)
    }

    private func noise(_ width: Int, _ height: Int) -> RGBImage {
        var random = RandomStream(seed: 9, purpose: .test, index: UInt64(width), step: UInt64(height))
        var image = RGBImage(width: width, height: height)
        for index in image.pixels.indices { image.pixels[index] = [0, 30, 128, 220, 255][random.below(5)] }
        return image
    }
}
