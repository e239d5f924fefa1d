package import CKernels
package import Tensors

/// The time of single convolutions, direction by direction, against this machine's measured peak.
package struct KernelBenchmark {
    /// One convolution of the built-in backbones.
    package struct Shape: Sendable {
        package var name: String
        package var conv: ak_conv

        /// - Parameter channels: input and output.
        package init(_ channels: (Int, Int), size: Int, kernel: Int = 3, stride: Int = 1, depthwise: Bool = false) {
            let padding = kernel == 3 ? 1 : 0
            conv = ak_conv(
                c: Int32(channels.0), k: Int32(channels.1), kh: Int32(kernel), kw: Int32(kernel), stride: Int32(stride),
                pad: Int32(padding), groups: Int32(depthwise ? channels.0 : 1), h: Int32(size), w: Int32(size))
            name =
                "\(kernel)x\(kernel)\(depthwise ? " dw" : "") \(channels.0)->\(channels.1) @\(size)"
                + (stride == 1 ? "" : " /\(stride)")
        }

        /// Operations of one direction of the direct algorithm: a multiply-add counts two.
        package func flops(images: Int) -> Double {
            var conv = conv
            let outputs = Double(images) * Double(conv.k) * Double(ak_conv_out_h(&conv)) * Double(ak_conv_out_w(&conv))
            return 2 * outputs * Double(conv.c / conv.groups * conv.kh * conv.kw)
        }
    }

    /// The shapes that make up IResNet and MobileFaceNet.
    package static let shapes: [Shape] =
        [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)].map { Shape(($0, $0), size: $1) }
        + [(64, 112), (128, 56), (256, 28), (512, 14)].map { Shape(($0, $0), size: $1, stride: 2) }
        + [(64, 128, 56), (128, 256, 28), (256, 512, 14)].map { Shape(($0, $1), size: $2, kernel: 1, stride: 2) }
        + [
            (64, 128, 56), (128, 64, 28), (64, 128, 28), (128, 256, 28), (256, 128, 14), (128, 256, 14), (128, 512, 7),
            (512, 128, 7),
        ].map { Shape(($0, $1), size: $2, kernel: 1) }
        + [(64, 56, 1), (128, 56, 2), (128, 28, 1), (256, 28, 2), (256, 14, 1), (512, 14, 2), (256, 7, 1)].map {
            Shape(($0, $0), size: $1, stride: $2, depthwise: true)
        }
        + [Shape((512, 512), size: 7, kernel: 7, depthwise: true)]

    package struct Timing: Sendable {
        package var shape: String
        /// Median seconds and operations per second of forward, and of both gradients together.
        package var forward: (seconds: Double, rate: Double)
        package var backward: (seconds: Double, rate: Double)
    }

    let pool: ThreadPool
    private let images: Int
    let dtype: ak_dtype

    package init(images: Int, dtype: ak_dtype, pool: ThreadPool) {
        self.pool = pool
        self.images = images
        self.dtype = dtype
    }

    /// Median of the repetitions that fit in `seconds`, at least three.
    package func time(_ shape: Shape, seconds: Double) -> Timing {
        var conv = shape.conv
        let n = Int32(images)
        let (oh, ow) = (ak_conv_out_h(&conv), ak_conv_out_w(&conv))
        func memory(_ byteCount: Int) -> AlignedBuffer { AlignedBuffer(byteCount: byteCount) }
        let x = memory(ak_map_bytes(dtype, n, conv.c, conv.h, conv.w))
        let dx = memory(x.byteCount)
        let y = memory(ak_map_bytes(dtype, n, conv.k, oh, ow))
        let weightCount = Int(conv.k * (conv.c / conv.groups) * conv.kh * conv.kw)
        let weights = memory(weightCount * 4)
        let dw = memory(weightCount * 4)
        let packed = memory(
            max(ak_conv_packed_bytes(&conv, dtype, AK_FORWARD), ak_conv_packed_bytes(&conv, dtype, AK_BACKWARD)))
        let workspace = memory(ak_conv_workspace_bytes(&conv, dtype, n, Int32(pool.threads)))
        let moments = memory(ak_moments_bytes(conv.k, Int32(pool.threads)))
        defer { withExtendedLifetime((x, dx, y, weights, dw, packed, workspace, moments)) {} }
        fill(ak_map_make(x.base, dtype, n, conv.c, conv.h, conv.w))
        fill(ak_map_make(y.base, dtype, n, conv.k, oh, ow))
        let floats = weights.base.assumingMemoryBound(to: Float.self)
        for i in 0..<weightCount { floats[i] = Float(i % 13 - 6) * 0.01 }

        let source = ak_source(
            map: ak_map_make(x.base, dtype, n, conv.c, conv.h, conv.w), activation: ak_activation())
        let output = ak_map_make(y.base, dtype, n, conv.k, oh, ow)
        ak_conv_pack(pool.handle, &conv, dtype, AK_FORWARD, floats, packed.base)
        let forward = median(seconds / 2) {
            ak_conv_forward(
                pool.handle, &conv, source, packed.base, output, OpaquePointer(moments.base), workspace.base)
        }
        fill(output)
        ak_conv_pack(pool.handle, &conv, dtype, AK_BACKWARD, floats, packed.base)
        var gradients = ak_conv_gradients()
        gradients.dx = ak_map_make(dx.base, dtype, n, conv.c, conv.h, conv.w)
        gradients.dw = dw.base.assumingMemoryBound(to: Float.self)
        let backward = median(seconds / 2) {
            ak_conv_backward(
                pool.handle, &conv, source, ak_gradient(map: output, chain: ak_chain()), packed.base, &gradients,
                workspace.base)
        }
        let flops = shape.flops(images: images)
        return Timing(
            shape: shape.name, forward: (forward, flops / forward), backward: (backward, 2 * flops / backward))
    }

    private func fill(_ map: ak_map) {
        let count = Int(map.n) * Int(map.c) * Int(map.h) * Int(map.w)
        let plain = Tensor([count], (0..<count).map { Float($0 % 17 - 8) * 0.1 })
        ak_map_from_nchw(pool.handle, plain.pointer, map)
        withExtendedLifetime(plain) {}
    }

    private func median(_ seconds: Double, _ body: () -> Void) -> Double {
        body()
        var times: [Double] = []
        let end = monotonicSeconds() + seconds
        while times.count < 3 || (monotonicSeconds() < end && times.count < 200) {
            let start = monotonicSeconds()
            body()
            times.append(monotonicSeconds() - start)
        }
        return times.sorted()[times.count / 2]
    }
}

/// What this machine's arithmetic and memory reach with all threads of a pool.
package struct MachinePeak: Sendable {
    /// Operations per second.
    package let fp32: Double
    /// Nil where the instruction set in use has no bf16 products.
    package let bf16: Double?
    /// Bytes per second.
    package let bandwidth: Double

    package init(_ pool: ThreadPool) {
        fp32 = ak_peak_flops(pool.handle, AK_F32)
        let half = ak_peak_flops(pool.handle, AK_BF16)
        bf16 = half > 0 ? half : nil
        let memory = AlignedBuffer(byteCount: 192 << 20)
        bandwidth = ak_peak_bandwidth(pool.handle, memory.base, memory.byteCount)
    }

    /// The peak that a convolution on maps of this type is held against.
    package func flops(_ dtype: ak_dtype) -> Double { dtype == AK_BF16 ? bf16 ?? fp32 : fp32 }
}
