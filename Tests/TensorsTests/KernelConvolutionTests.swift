import CKernels
import Tensors
import Testing

/// One case with maps of one element type, and the calls of the kernels on memory full of NaN.
private struct ConvolutionRun {
    let test: ConvolutionCase
    let oracle: ConvolutionOracle
    let dtype: ak_dtype
    let x: TestMap
    let dy: TestMap
    let chainX: TestMap
    let reductionX: TestMap

    init(_ test: ConvolutionCase, _ oracle: ConvolutionOracle, _ dtype: ak_dtype) {
        self.test = test
        self.oracle = oracle
        self.dtype = dtype
        x = TestMap(test.input, dtype, oracle.x)
        dy = TestMap(test.output, dtype, oracle.dy)
        chainX = TestMap(test.output, dtype, oracle.chainX)
        reductionX = TestMap(test.input, dtype, oracle.reductionX)
    }

    var source: ak_source { ak_source(map: x.map, activation: oracle.xNorm.activation(test.reading)) }
    var gradient: ak_gradient {
        ak_gradient(map: dy.map, chain: oracle.chainNorm.chain(chainX, oracle.chaining))
    }

    func workspace(_ pool: ThreadPool) -> GuardedMemory {
        withUnsafePointer(to: test.conv) {
            GuardedMemory(ak_conv_workspace_bytes($0, dtype, Int32(test.n), Int32(pool.threads)))
        }
    }

    func packed(_ pool: ThreadPool, _ direction: ak_direction, _ weights: [Float]) -> GuardedMemory {
        withUnsafePointer(to: test.conv) {
            let memory = GuardedMemory(ak_conv_packed_bytes($0, dtype, direction))
            ak_conv_pack(pool.handle, $0, dtype, direction, weights, memory.base)
            return memory
        }
    }

    /// What a call has left behind.
    struct Results {
        var y: TestMap?
        var moments: MomentsFixture?
        var dx: TestMap?
        var dw: GuardedMemory?
        var sums: GuardedMemory?
        /// Packed weights and workspace.
        var lent: [GuardedMemory]

        var bytes: [[UInt8]] { [y?.bytes ?? [], dx?.bytes ?? [], dw?.bytes ?? []] }
        var isProper: Bool {
            lent.allSatisfy { $0.isIntact } && y?.isProper ?? true && dx?.isProper ?? true && dw?.isIntact ?? true
        }
    }

    func forward(_ pool: ThreadPool, moments wanted: Bool, weights: [Float]? = nil) -> Results {
        let (y, moments) = (TestMap(test.output, dtype), wanted ? MomentsFixture(test.output.c, pool) : nil)
        let (packed, workspace) = (packed(pool, AK_FORWARD, weights ?? oracle.weights), workspace(pool))
        withUnsafePointer(to: test.conv) {
            ak_conv_forward(pool.handle, $0, source, packed.base, y.map, moments?.pointer, workspace.base)
        }
        return Results(y: y, moments: moments, lent: [packed, workspace])
    }

    func backward(_ pool: ThreadPool, _ options: ConvolutionOptions) -> Results {
        var to = ak_conv_gradients()
        var result = Results(lent: [workspace(pool)])
        if options.wantsDX {
            let dx = options.accumulatesDX ? TestMap(test.input, dtype, oracle.dxBefore) : TestMap(test.input, dtype)
            result.dx = dx
            to.dx = dx.map
            to.accumulate_dx = options.accumulatesDX
            if let reading = options.reduction {
                let sums = NormFixture.sums(test.input.c, pool)
                result.sums = sums
                to.reduction = oracle.reductionNorm.reduction(reductionX, reading, sums)
            }
            result.lent.append(packed(pool, AK_BACKWARD, oracle.weights))
        }
        if options.wantsDW {
            let dw = GuardedMemory(4 * test.weightCount)
            let floats = dw.base.assumingMemoryBound(to: Float.self)
            if options.accumulatesDW { floats.update(from: oracle.dwBefore, count: test.weightCount) }
            result.dw = dw
            to.dw = floats
            to.accumulate_dw = options.accumulatesDW
        }
        withUnsafePointer(to: test.conv) {
            // What is not needed is not given.
            ak_conv_backward(
                pool.handle, $0, options.wantsDW ? source : ak_source(), gradient,
                options.wantsDX ? result.lent[1].base : nil, &to, result.lent[0].base)
        }
        withExtendedLifetime(result) {}
        return result
    }

    func checkForward(_ pool: ThreadPool, _ result: Results, _ setting: String) {
        guard let y = result.y else { return }
        let (limit, plain) = (test.tolerance(dtype), y.plain)
        let error = relativeError(plain, oracle.y)
        #expect(error < limit, "forward, \(setting)")
        #expect(result.isProper, "forward: padding lanes or memory that was not given, \(setting)")
        guard let moments = result.moments, error < limit else { return }
        // The moments are those of what was written, but for its rounding.
        let momentsError = moments.error(pool, of: plain, test.output)
        #expect(momentsError < (dtype == AK_BF16 ? 0x1p-7 : 1e-5), "moments, \(setting)")
    }

    func checkBackward(_ pool: ThreadPool, _ result: Results, _ options: ConvolutionOptions, _ setting: String) {
        let limit = test.tolerance(dtype)
        #expect(result.isProper, "backward: padding lanes or memory that was not given, \(options), \(setting)")
        if let dw = result.dw {
            let floats = dw.base.assumingMemoryBound(to: Float.self)
            var expected = oracle.dw
            if options.accumulatesDW { for i in expected.indices { expected[i] += Double(oracle.dwBefore[i]) } }
            let error = relativeError((0..<test.weightCount).map { Double(floats[$0]) }, expected)
            #expect(error < limit, "weights' gradient, \(options), \(setting)")
        }
        guard let dx = result.dx else { return }
        var expected = oracle.dx
        if options.accumulatesDX { for i in expected.indices { expected[i] += oracle.dxBefore[i] } }
        let plain = dx.plain
        let error = relativeError(plain, expected)
        #expect(error < limit, "data's gradient, \(options), \(setting)")
        guard let sums = result.sums, let reading = options.reduction, error < limit else { return }
        let sumsError = oracle.reductionNorm.errorOfSums(pool, sums, plain, reductionX, oracle.reductionX, reading)
        #expect(sumsError < (dtype == AK_BF16 ? 0x1p-7 : 1e-5), "reduction, \(options), \(setting)")
    }
}

@Suite(.serialized)
struct KernelConvolutionTests {
    /// Whether the kernels apply dy's chain.
    private static func chains(_ test: ConvolutionCase) -> Bool {
        withUnsafePointer(to: test.conv) { conv in elementTypes.allSatisfy { ak_conv_chains(conv, $0) } }
    }

    @Test(arguments: ConvolutionCase.all)
    func matchesLoops(test: ConvolutionCase) {
        let oracle = ConvolutionOracle(test, chains: Self.chains(test))
        for (i, dtype) in elementTypes.enumerated() {
            let run = ConvolutionRun(test, oracle, dtype)
            onEachSet(turn: 8 * test.turn + 4 * i) { pool, turn, setting in
                let (options, setting) = (ConvolutionOptions(turn), "\(name(dtype)), \(setting)")
                let (forward, backward) = (
                    run.forward(pool, moments: options.moments), run.backward(pool, options)
                )
                run.checkForward(pool, forward, setting)
                run.checkBackward(pool, backward, options, setting)
                // A prime step, so that every kind of case is repeated under every set.
                guard turn % 5 == 0 else { return }
                let (forwardAgain, backwardAgain) = (
                    run.forward(pool, moments: options.moments), run.backward(pool, options)
                )
                #expect(
                    forward.bytes == forwardAgain.bytes && backward.bytes == backwardAgain.bytes,
                    "same bits twice, \(options), \(setting)")
                if let (mean, variance) = forward.moments?.fold(pool) {
                    let again = forwardAgain.moments?.fold(pool)
                    #expect(mean == again?.mean && variance == again?.variance, "same moments twice, \(setting)")
                }
            }
        }
    }

    @Test(arguments: ConvolutionCase.stems)
    func firstConvolutionMatchesLoops(test: ConvolutionCase) {
        let oracle = ConvolutionOracle(test, chains: true)
        let images = oracle.x.map { Float($0) }
        var conv = test.conv
        for (i, dtype) in elementTypes.enumerated() {
            let run = ConvolutionRun(test, oracle, dtype)
            let limit = dtype == AK_BF16 ? 1e-2 : 2e-5
            onEachSet(turn: 8 * test.turn + 4 * i) { pool, turn, setting in
                let (options, setting) = (ConvolutionOptions(turn), "\(name(dtype)), \(setting)")
                let workspace = GuardedMemory(ak_stem_workspace_bytes(&conv, Int32(test.n), Int32(pool.threads)))
                let y = TestMap(test.output, dtype)
                let moments = options.moments ? MomentsFixture(test.output.c, pool) : nil
                ak_stem_forward(
                    pool.handle, &conv, images, Int32(test.n), oracle.weights, y.map, moments?.pointer, workspace.base)
                let plain = y.plain
                #expect(relativeError(plain, oracle.y) < limit, "forward, \(setting)")
                #expect(y.isProper && workspace.isIntact, "forward: memory that was not given, \(setting)")
                if let moments {
                    let error = moments.error(pool, of: plain, test.output)
                    #expect(error < (dtype == AK_BF16 ? 0x1p-7 : 1e-5), "moments, \(setting)")
                }

                let again = GuardedMemory(workspace.size)
                let dw = GuardedMemory(4 * test.weightCount)
                let floats = dw.base.assumingMemoryBound(to: Float.self)
                for accumulate in [false, true] {
                    ak_stem_backward_weights(
                        pool.handle, &conv, images, Int32(test.n), run.gradient, floats, accumulate, again.base)
                    let expected = accumulate ? oracle.dw.map { 2 * $0 } : oracle.dw
                    let error = relativeError((0..<test.weightCount).map { Double(floats[$0]) }, expected)
                    #expect(error < limit, "weights' gradient, \(setting)")
                }
                #expect(dw.isIntact && again.isIntact, "backward: memory that was not given, \(setting)")
            }
            withExtendedLifetime(run) {}
        }
    }

    /// An execution takes any number of images up to its batch.
    @Test func workspacesSufficeForFewerImages() {
        let cases = [
            ConvolutionCase(16, 16, stride: 2, 9, 7), ConvolutionCase(18, 33, stride: 2, 13, 11),
            ConvolutionCase(24, 40, 12, 10), ConvolutionCase(128, 128, 28, 28), ConvolutionCase(512, 512, 7, 7),
            ConvolutionCase(64, 128, kernel: (1, 1), pad: 0, 7, 7), ConvolutionCase(32, 32, groups: 32, 7, 7),
            ConvolutionCase(32, 32, groups: 16, 7, 7),
        ]
        onEachSet { pool, setting in
            for test in cases {
                for dtype in elementTypes {
                    let sizes = withUnsafePointer(to: test.conv) { conv in
                        (1...60).map { ak_conv_workspace_bytes(conv, dtype, $0, Int32(pool.threads)) }
                    }
                    let fewer = zip(sizes, sizes.dropFirst()).enumerated().first { $1.0 > $1.1 }
                    #expect(fewer == nil, "\(test), \(name(dtype)), \(setting): \((fewer?.offset ?? 0) + 2) images")
                }
            }
        }
    }

    /// Whether one can tell a wrong kernel from a right one by these means.
    @Test func aWrongTapIsNoticed() {
        let test = ConvolutionCase(64, 64, 14, 14, n: 2)
        let oracle = ConvolutionOracle(test, chains: false)
        var wrong = oracle.weights
        wrong[5] += 0.05
        let pool = ThreadPool(threads: 1)
        let run = ConvolutionRun(test, oracle, AK_F32)
        let right = run.forward(pool, moments: false).y?.plain ?? []
        let bent = run.forward(pool, moments: false, weights: wrong).y?.plain ?? []
        #expect(relativeError(right, oracle.y) < test.tolerance(AK_F32))
        #expect(relativeError(bent, oracle.y) > 10 * test.tolerance(AK_F32))
    }
}

@Suite(.serialized)
struct KernelMapTests {
    @Test(arguments: MapShape.cases)
    func plainLayoutThereAndBack(shape: MapShape) {
        for dtype in elementTypes {
            let values = randomValues(shape.count, 4, dtype)
            onEachSet { pool, setting in
                let map = TestMap(shape, dtype)
                ak_map_from_nchw(pool.handle, values.map { Float($0) }, map.map)
                #expect(map.plain == values && map.isProper, "\(setting)")
                var back = [Float](repeating: .nan, count: shape.count)
                ak_map_to_nchw(pool.handle, map.map, &back)
                #expect(back.map { Double($0) } == values, "\(setting)")
                ak_map_zero(pool.handle, map.map)
                #expect(map.bytes.allSatisfy { $0 == 0 } && map.isProper, "\(setting)")
            }
        }
    }
}
