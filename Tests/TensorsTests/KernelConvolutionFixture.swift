import CKernels
import Tensors

/// One convolution in a test: geometry, batch and the halos of its maps.
struct ConvolutionCase: Sendable, CustomStringConvertible {
    var conv: ak_conv
    var n: Int
    var inputHalo: Int
    var outputHalo: Int

    init(
        _ c: Int, _ k: Int, kernel: (Int, Int) = (3, 3), stride: Int = 1, pad: Int = 1, groups: Int = 1, _ h: Int,
        _ w: Int, n: Int = 1, inputHalo: Int? = nil, outputHalo: Int = 1
    ) {
        conv = ak_conv(
            c: Int32(c), k: Int32(k), kh: Int32(kernel.0), kw: Int32(kernel.1), stride: Int32(stride), pad: Int32(pad),
            groups: Int32(groups), h: Int32(h), w: Int32(w))
        self.n = n
        self.inputHalo = inputHalo ?? pad
        self.outputHalo = outputHalo
    }

    var input: MapShape { MapShape(n: n, c: Int(conv.c), h: Int(conv.h), w: Int(conv.w), halo: inputHalo) }
    var output: MapShape {
        withUnsafePointer(to: conv) {
            MapShape(
                n: n, c: Int(conv.k), h: Int(ak_conv_out_h($0)), w: Int(ak_conv_out_w($0)), halo: outputHalo)
        }
    }
    var weightCount: Int { Int(conv.k * (conv.c / conv.groups) * conv.kh * conv.kw) }

    /// Winograd's transforms lose a few more bits than a sum of products.
    var tolerance: Double {
        conv.kh == 3 && conv.kw == 3 && conv.stride == 1 && conv.groups == 1 ? 1e-4 : 2e-5
    }

    var description: String {
        "\(conv.c)->\(conv.k) \(conv.kh)x\(conv.kw) stride \(conv.stride) pad \(conv.pad) groups \(conv.groups) of "
            + "\(n)x\(conv.h)x\(conv.w), halos \(inputHalo) \(outputHalo)"
    }
}

extension ConvolutionCase {
    private static let sizes = [
        (1, 1), (2, 2), (2, 5), (5, 2), (5, 5), (7, 7), (13, 13), (14, 14), (7, 15), (15, 13), (28, 14),
    ]
    private static let channels = [(3, 8), (16, 16), (24, 48), (64, 80), (80, 24), (48, 64), (8, 3), (16, 48)]

    /// Every size with every kind of kernel; channels, batch and halos rotate through their choices.
    static let all: [ConvolutionCase] = {
        var cases: [ConvolutionCase] = []
        for (i, (h, w)) in sizes.enumerated() {
            func channel(_ kind: Int) -> (Int, Int) { channels[(i * 3 + kind * 5) % channels.count] }
            let n = i % 3 + 1
            let halo = i % 2
            for stride in [1, 2] {
                let (c, k) = channel(stride)
                cases.append(.init(c, k, stride: stride, h, w, n: n, outputHalo: halo))
                cases.append(.init(k, c, stride: stride, h, w, n: n, outputHalo: 1 - halo))
                cases.append(
                    .init(c, k, kernel: (1, 1), stride: stride, pad: 0, h, w, n: n, inputHalo: halo, outputHalo: 1))
                cases.append(
                    .init(k, c, kernel: (1, 1), stride: stride, pad: 0, h, w, n: n, inputHalo: 1, outputHalo: halo))
                cases.append(.init(k, k, stride: stride, groups: k, h, w, n: n, outputHalo: halo))
                cases.append(.init(c, c, stride: stride, groups: c, h, w, n: n, outputHalo: 1 - halo))
                if c % 8 == 0 && k % 8 == 0 {
                    cases.append(.init(c, k, stride: stride, groups: 8, h, w, n: n, outputHalo: halo))
                }
            }
            let (c, k) = channel(3)
            // The global depthwise convolution, as large as the map.
            if h <= 7 && w <= 7 {
                cases.append(.init(c, c, kernel: (h, w), pad: 0, groups: c, h, w, n: n, outputHalo: halo))
            }
            if min(h, w) >= 5 {
                cases.append(.init(c, k, kernel: (7, 7), stride: 2, h, w, n: n, outputHalo: halo))
                cases.append(.init(c, k, kernel: (3, 3), pad: 0, h, w, n: n, inputHalo: halo))
                cases.append(.init(k, k, kernel: (5, 3), stride: 2, pad: 0, groups: k, h, w, n: n, inputHalo: halo))
            }
        }
        // Two channels to a group; the global convolution of an odd face crop; reductions of more than one panel;
        // output blocks that outnumber the positions.
        cases += [
            .init(128, 128, groups: 64, 7, 7, n: 2), .init(128, 128, stride: 2, groups: 64, 14, 14, n: 2),
            .init(64, 64, kernel: (7, 6), pad: 0, groups: 64, 7, 6, n: 3, outputHalo: 0),
            .init(160, 176, stride: 2, 15, 15, n: 2), .init(144, 160, 6, 9, n: 3),
            .init(200, 256, kernel: (1, 1), pad: 0, 5, 5, n: 2), .init(48, 512, kernel: (1, 1), pad: 0, 1, 1, n: 3),
        ]
        return cases
    }()

    /// First convolutions: up to four channels of plain NCHW images.
    static let stems: [ConvolutionCase] = {
        var cases: [ConvolutionCase] = []
        for (i, (h, w)) in (sizes + [(9, 33)]).enumerated() {
            for stride in [1, 2] {
                cases.append(
                    .init(
                        1 + i % 4, [8, 16, 24, 64][(i + stride) % 4], stride: stride, h, w, n: i % 3 + 1,
                        outputHalo: i % 2))
                if min(h, w) >= 7 {
                    cases.append(.init(3, 64, kernel: (7, 7), stride: stride, h, w, n: 2))
                    cases.append(.init(3, 16, stride: stride, pad: 0, h, w, n: 2))
                }
            }
        }
        return cases
    }()
}

/// The three directions of one case: random operands and the results of plain double-precision loops.
struct ConvolutionOracle {
    let x: [Double]
    let weights: [Float]
    let dy: [Double]
    private(set) var y: [Double]
    private(set) var dx: [Double]
    private(set) var dw: [Double]

    init(_ test: ConvolutionCase) {
        x = randomValues(test.input.count, 1)
        weights = randomFloats(test.weightCount, 2)
        dy = randomValues(test.output.count, 3)
        y = .init(repeating: 0, count: test.output.count)
        dx = .init(repeating: 0, count: test.input.count)
        dw = .init(repeating: 0, count: test.weightCount)
        let v = test.conv
        let (stride, pad, kh, kw) = (Int(v.stride), Int(v.pad), Int(v.kh), Int(v.kw))
        let (h, w, oh, ow) = (test.input.h, test.input.w, test.output.h, test.output.w)
        let (cg, kg) = (Int(v.c / v.groups), Int(v.k / v.groups))
        for n in 0..<test.n {
            for k in 0..<Int(v.k) {
                for c in 0..<cg {
                    let plane = (n * Int(v.c) + k / kg * cg + c) * h * w
                    for i in 0..<oh {
                        for j in 0..<ow {
                            let out = ((n * Int(v.k) + k) * oh + i) * ow + j
                            for a in 0..<kh where (0..<h).contains(i * stride - pad + a) {
                                for b in 0..<kw where (0..<w).contains(j * stride - pad + b) {
                                    let column = j * stride - pad + b
                                    let at = plane + (i * stride - pad + a) * w + column
                                    let tap = ((k * cg + c) * kh + a) * kw + b
                                    y[out] += x[at] * Double(weights[tap])
                                    dx[at] += dy[out] * Double(weights[tap])
                                    dw[tap] += dy[out] * x[at]
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A workspace full of NaN with a guard behind it.
struct GuardedMemory {
    private static let guardBytes = 256
    private let buffer: AlignedBuffer
    private let size: Int

    init(_ size: Int) {
        self.size = size
        buffer = AlignedBuffer(byteCount: size + Self.guardBytes)
        buffer.base.initializeMemory(as: UInt8.self, repeating: 0xFF, count: buffer.byteCount)
    }

    var base: UnsafeMutableRawPointer { buffer.base }
    var guardIsIntact: Bool {
        UnsafeRawBufferPointer(start: buffer.base + size, count: Self.guardBytes).allSatisfy { $0 == 0xFF }
    }
}
