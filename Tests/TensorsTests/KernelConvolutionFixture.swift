import CKernels
import Tensors

/// One convolution in a test: geometry, batch, and how its maps are read.
struct ConvolutionCase: Sendable, CustomStringConvertible {
    var conv: ak_conv
    var n: Int
    /// What x is read through, and what dy is read through where the kernels apply chains.
    var reading = Reading.asStored
    var chaining = Reading.asStored
    /// Where the options of this case begin in their rotation.
    var turn = 0

    init(
        _ c: Int, _ k: Int, kernel: (Int, Int) = (3, 3), stride: Int = 1, pad: Int = 1, groups: Int = 1, _ h: Int,
        _ w: Int, n: Int = 1
    ) {
        conv = ak_conv(
            c: Int32(c), k: Int32(k), kh: Int32(kernel.0), kw: Int32(kernel.1), stride: Int32(stride), pad: Int32(pad),
            groups: Int32(groups), h: Int32(h), w: Int32(w))
        self.n = n
    }

    var input: MapShape { MapShape(n: n, c: Int(conv.c), h: Int(conv.h), w: Int(conv.w)) }
    var output: MapShape {
        withUnsafePointer(to: conv) {
            MapShape(n: n, c: Int(conv.k), h: Int(ak_conv_out_h($0)), w: Int(ak_conv_out_w($0)))
        }
    }
    var weightCount: Int { Int(conv.k * (conv.c / conv.groups) * conv.kh * conv.kw) }

    /// Winograd's transforms lose a few more bits than a sum of products.
    func tolerance(_ dtype: ak_dtype) -> Double {
        let transformed = conv.kh == 3 && conv.kw == 3 && conv.groups == 1
        return dtype == AK_BF16 ? (transformed ? 1.5e-2 : 1e-2) : (transformed ? 1e-4 : 2e-5)
    }

    /// The same case, at its place in the rotation of readings and options.
    func turned(_ turn: Int) -> ConvolutionCase {
        var result = self
        result.turn = turn
        result.reading = Reading.allCases[turn % 3]
        result.chaining = Reading.allCases[(turn / 3 + turn) % 3]
        return result
    }

    var description: String {
        "\(conv.c)->\(conv.k) \(conv.kh)x\(conv.kw) stride \(conv.stride) pad \(conv.pad) groups \(conv.groups) of "
            + "\(n)x\(conv.h)x\(conv.w), x \(reading), dy \(chaining)"
    }
}

extension ConvolutionCase {
    private static let sizes = [
        (1, 1), (2, 2), (2, 5), (5, 2), (5, 5), (7, 7), (13, 13), (14, 14), (7, 15), (15, 13), (28, 14),
    ]
    private static let channels = [(3, 8), (16, 16), (24, 48), (64, 80), (80, 24), (48, 64), (8, 3), (16, 48)]

    /// Every size with every kind of kernel; channels, batch and readings rotate through their choices.
    static let all: [ConvolutionCase] = {
        var cases: [ConvolutionCase] = []
        for (i, (h, w)) in sizes.enumerated() {
            func channel(_ kind: Int) -> (Int, Int) { channels[(i * 3 + kind * 5) % channels.count] }
            let n = i % 3 + 1
            for stride in [1, 2] {
                let (c, k) = channel(stride)
                cases.append(.init(c, k, stride: stride, h, w, n: n))
                cases.append(.init(k, c, stride: stride, h, w, n: n))
                cases.append(.init(c, k, kernel: (1, 1), stride: stride, pad: 0, h, w, n: n))
                cases.append(.init(k, c, kernel: (1, 1), stride: stride, pad: 0, h, w, n: n))
                cases.append(.init(k, k, stride: stride, groups: k, h, w, n: n))
                cases.append(.init(c, c, stride: stride, groups: c, h, w, n: n))
                if c % 8 == 0 && k % 8 == 0 { cases.append(.init(c, k, stride: stride, groups: 8, h, w, n: n)) }
            }
            let (c, k) = channel(3)
            // The global depthwise convolution, as large as the map.
            if h <= 7 && w <= 7 { cases.append(.init(c, c, kernel: (h, w), pad: 0, groups: c, h, w, n: n)) }
            if min(h, w) >= 5 {
                cases.append(.init(c, k, kernel: (7, 7), stride: 2, h, w, n: n))
                cases.append(.init(c, k, kernel: (3, 3), pad: 0, h, w, n: n))
                cases.append(.init(k, k, kernel: (5, 3), stride: 2, pad: 0, groups: k, h, w, n: n))
            }
        }
        // Two channels to a group; the global convolution of an odd face crop; reductions of more than one panel;
        // maps narrower than a tile; output blocks that outnumber the positions; a batch; planes longer than a run of sums.
        cases += [
            .init(128, 128, groups: 64, 7, 7, n: 2), .init(128, 128, stride: 2, groups: 64, 14, 14, n: 2),
            .init(64, 64, kernel: (7, 6), pad: 0, groups: 64, 7, 6, n: 3),
            .init(160, 176, stride: 2, 15, 15, n: 2), .init(272, 280, stride: 2, 7, 13, n: 2),
            .init(16, 24, stride: 2, 13, 3, n: 3), .init(24, 16, stride: 2, 3, 13, n: 3), .init(144, 160, 6, 9, n: 3),
            .init(200, 256, kernel: (1, 1), pad: 0, 5, 5, n: 2), .init(48, 512, kernel: (1, 1), pad: 0, 1, 1, n: 3),
            .init(512, 64, kernel: (1, 1), pad: 0, 3, 3, n: 5),
        ]
        for stride in [1, 2] {
            cases += [
                .init(16, 16, stride: stride, 7, 7, n: 32), .init(16, 24, stride: stride, 56, 56),
                .init(32, 32, kernel: (1, 1), stride: stride, pad: 0, 7, 7, n: 32),
                .init(16, 24, kernel: (1, 1), stride: stride, pad: 0, 56, 56),
                .init(16, 16, stride: stride, groups: 16, 7, 7, n: 32),
                .init(16, 16, stride: stride, groups: 16, 56, 56),
            ]
        }
        return cases.enumerated().map { $1.turned($0) }
    }()

    /// First convolutions: up to four channels of plain NCHW images.
    static let stems: [ConvolutionCase] = {
        var cases: [ConvolutionCase] = []
        for (i, (h, w)) in (sizes + [(9, 33)]).enumerated() {
            for stride in [1, 2] {
                cases.append(
                    .init(1 + i % 4, [8, 16, 24, 64][(i + stride) % 4], stride: stride, h, w, n: i % 3 + 1))
                if min(h, w) >= 7 {
                    cases.append(.init(3, 64, kernel: (7, 7), stride: stride, h, w, n: 2))
                    cases.append(.init(3, 16, stride: stride, pad: 0, h, w, n: 2))
                }
            }
        }
        // Images are read as they are.
        return cases.enumerated().map {
            var result = $1.turned($0)
            result.reading = .asStored
            return result
        }
    }()
}

/// What one backward call is asked for, besides what its operands decide. The choices rotate with the turn.
struct ConvolutionOptions: CustomStringConvertible {
    var wantsDX: Bool
    var wantsDW: Bool
    var accumulatesDX: Bool
    var accumulatesDW: Bool
    /// nil: no reduction of dx.
    var reduction: Reading?
    var moments: Bool

    init(_ turn: Int) {
        wantsDX = turn % 3 != 1
        wantsDW = turn % 3 != 2
        accumulatesDX = turn / 3 % 2 == 1
        accumulatesDW = turn / 6 % 2 == 1
        reduction = [nil, .affine, .prelu][turn / 12 % 3]
        moments = turn % 2 == 0
    }

    var description: String {
        var parts: [String] = []
        if wantsDX { parts.append(accumulatesDX ? "dx +=" : "dx =") }
        if wantsDX, let reduction { parts.append("reduced through \(reduction)") }
        if wantsDW { parts.append(accumulatesDW ? "dw +=" : "dw =") }
        return parts.joined(separator: ", ")
    }
}

/// The operands of one case and the results of plain double-precision loops. The maps' values are bf16 numbers, so that
/// one oracle serves both element types.
final class ConvolutionOracle {
    /// As stored.
    let x: [Double]
    let dy: [Double]
    let weights: [Float]
    /// What dx and dw are added to.
    let dxBefore: [Double]
    let dwBefore: [Float]
    /// What dy's chain and dx's reduction read.
    let chainX: [Double]
    let reductionX: [Double]
    let xNorm: NormFixture
    let chainNorm: NormFixture
    let reductionNorm: NormFixture
    /// Whether dy is given with its chain.
    let chaining: Reading

    private(set) var y: [Double]
    private(set) var dx: [Double]
    private(set) var dw: [Double]

    /// - Parameter chains: whether the kernels apply dy's chain.
    init(_ test: ConvolutionCase, chains: Bool) {
        let (input, output) = (test.input, test.output)
        x = randomValues(input.count, 1, AK_BF16)
        weights = randomFloats(test.weightCount, 2)
        dy = randomValues(output.count, 3, AK_BF16)
        dxBefore = randomValues(input.count, 4, AK_BF16)
        dwBefore = randomFloats(test.weightCount, 5)
        chainX = randomValues(output.count, 6, AK_BF16)
        reductionX = randomValues(input.count, 7, AK_BF16)
        xNorm = NormFixture(input.c, 1)
        chainNorm = NormFixture(output.c, 2)
        reductionNorm = NormFixture(input.c, 3)
        chaining = chains ? test.chaining : .asStored
        y = .init(repeating: 0, count: output.count)
        dx = .init(repeating: 0, count: input.count)
        dw = .init(repeating: 0, count: test.weightCount)
        convolve(
            test, xNorm.activated(x, input, test.reading), chainNorm.chained(dy, chainX, output, chaining))
    }

    /// - Parameters:
    ///   - v: x as it is read.
    ///   - g: dy as it is read.
    private func convolve(_ test: ConvolutionCase, _ v: [Double], _ g: [Double]) {
        let conv = test.conv
        let (stride, pad, kh, kw) = (Int(conv.stride), Int(conv.pad), Int(conv.kh), Int(conv.kw))
        let (h, w, oh, ow) = (test.input.h, test.input.w, test.output.h, test.output.w)
        let (cg, kg) = (Int(conv.c / conv.groups), Int(conv.k / conv.groups))
        // The first and one past the last output that reads inside the map at a tap.
        func inside(_ tap: Int, _ size: Int, _ out: Int) -> Range<Int> {
            let first = max(0, (pad - tap + stride - 1) / stride)
            let last = size + pad - tap <= 0 ? 0 : min(out, (size + pad - tap - 1) / stride + 1)
            return first..<max(first, last)
        }
        y.withUnsafeMutableBufferPointer { y in
            dx.withUnsafeMutableBufferPointer { dx in
                for n in 0..<test.n {
                    for k in 0..<Int(conv.k) {
                        for c in 0..<cg {
                            let plane = (n * Int(conv.c) + k / kg * cg + c) * h * w
                            for a in 0..<kh {
                                for b in 0..<kw {
                                    let tap = ((k * cg + c) * kh + a) * kw + b
                                    let weight = Double(weights[tap])
                                    var sum = 0.0
                                    for i in inside(a, h, oh) {
                                        let row = ((n * Int(conv.k) + k) * oh + i) * ow
                                        let from = plane + (i * stride - pad + a) * w - pad + b
                                        for j in inside(b, w, ow) {
                                            let at = from + j * stride
                                            y[row + j] += v[at] * weight
                                            dx[at] += g[row + j] * weight
                                            sum += g[row + j] * v[at]
                                        }
                                    }
                                    dw[tap] += sum
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
