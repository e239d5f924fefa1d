import CKernels
import Tensors
import Testing

@Suite(.serialized)
struct KernelConvolutionTests {
    /// Everything that the kernels give for one case.
    private struct Results {
        let y: TestMap
        let dx: TestMap
        var dw: [Float]
        var intact: Bool
    }

    /// Runs the three directions on maps full of NaN; `base` is what accumulating calls start from.
    private static func run(_ test: ConvolutionCase, _ oracle: ConvolutionOracle, _ pool: ThreadPool, base: Results?)
        -> Results
    {
        var conv = test.conv
        let packed = GuardedMemory(ak_conv_packed_bytes(&conv))
        let workspace = GuardedMemory(ak_conv_workspace_bytes(&conv, Int32(test.n), Int32(pool.threads)))
        ak_conv_pack(pool.handle, &conv, oracle.weights, packed.base)
        let y = TestMap(test.output)
        let x = TestMap(test.input, AK_F32, oracle.x)
        let dy = TestMap(test.output, AK_F32, oracle.dy)
        let dx = base?.dx ?? TestMap(test.input)
        var dw = base?.dw ?? .init(repeating: .nan, count: test.weightCount)
        ak_conv_forward(pool.handle, &conv, x.map, packed.base, y.map, workspace.base)
        ak_conv_backward_data(pool.handle, &conv, dy.map, packed.base, dx.map, base != nil, workspace.base)
        ak_conv_backward_weights(pool.handle, &conv, x.map, dy.map, &dw, base != nil, workspace.base)
        return Results(y: y, dx: dx, dw: dw, intact: packed.guardIsIntact && workspace.guardIsIntact)
    }

    @Test(arguments: ConvolutionCase.all)
    func matchesLoops(test: ConvolutionCase) {
        let oracle = ConvolutionOracle(test)
        onEachSet { pool, setting in
            let result = Self.run(test, oracle, pool, base: nil)
            #expect(relativeError(result.y.plain, oracle.y) < test.tolerance, "forward, \(setting)")
            #expect(relativeError(result.dx.plain, oracle.dx) < test.tolerance, "backward data, \(setting)")
            #expect(
                relativeError(result.dw.map { Double($0) }, oracle.dw) < test.tolerance, "backward weights, \(setting)")
            #expect(result.y.borderIsZero && result.dx.borderIsZero, "halo and padding lanes, \(setting)")
            #expect(result.intact, "writes beyond its memory, \(setting)")
        }
    }

    @Test(arguments: ConvolutionCase.all.enumerated().filter { $0.offset % 3 == 0 }.map { $0.element })
    func accumulatesAndRepeats(test: ConvolutionCase) {
        let oracle = ConvolutionOracle(test)
        onEachSet(threads: [2]) { pool, setting in
            let first = Self.run(test, oracle, pool, base: nil)
            let second = Self.run(test, oracle, pool, base: nil)
            #expect(
                first.y.bytes == second.y.bytes && first.dx.bytes == second.dx.bytes && first.dw == second.dw,
                "same bits twice, \(setting)")
            let sum = Self.run(test, oracle, pool, base: second)
            #expect(relativeError(sum.dx.plain, oracle.dx.map { 2 * $0 }) < test.tolerance, "data, \(setting)")
            #expect(
                relativeError(sum.dw.map { Double($0) }, oracle.dw.map { 2 * $0 }) < test.tolerance,
                "weights, \(setting)")
            #expect(sum.dx.borderIsZero, "halo and padding lanes, \(setting)")
        }
    }

    @Test(arguments: ConvolutionCase.stems)
    func firstConvolutionMatchesLoops(test: ConvolutionCase) {
        let oracle = ConvolutionOracle(test)
        var conv = test.conv
        let images = oracle.x.map { Float($0) }
        let dy = TestMap(test.output, AK_F32, oracle.dy)
        onEachSet { pool, setting in
            let workspace = GuardedMemory(ak_stem_workspace_bytes(&conv, Int32(test.n), Int32(pool.threads)))
            let y = TestMap(test.output)
            var dw = [Float](repeating: .nan, count: test.weightCount)
            ak_stem_forward(pool.handle, &conv, images, Int32(test.n), oracle.weights, y.map, workspace.base)
            for accumulate in [false, true] {
                ak_stem_backward_weights(
                    pool.handle, &conv, images, Int32(test.n), dy.map, &dw, accumulate, workspace.base)
                let expected = accumulate ? oracle.dw.map { 2 * $0 } : oracle.dw
                #expect(relativeError(dw.map { Double($0) }, expected) < 2e-5, "weights, \(setting)")
            }
            #expect(relativeError(y.plain, oracle.y) < 2e-5, "forward, \(setting)")
            #expect(y.borderIsZero, "halo and padding lanes, \(setting)")
            #expect(workspace.guardIsIntact, "writes beyond its memory, \(setting)")
        }
    }

    /// Whether one can tell a wrong kernel from a right one by these means.
    @Test func aWrongTapIsNoticed() {
        let test = ConvolutionCase(64, 64, 14, 14, n: 2)
        let oracle = ConvolutionOracle(test)
        var wrong = oracle.weights
        wrong[5] += 0.05
        var conv = test.conv
        let pool = ThreadPool(threads: 1)
        let packed = GuardedMemory(ak_conv_packed_bytes(&conv))
        let workspace = GuardedMemory(ak_conv_workspace_bytes(&conv, Int32(test.n), 1))
        let y = TestMap(test.output)
        ak_conv_pack(pool.handle, &conv, wrong, packed.base)
        ak_conv_forward(
            pool.handle, &conv, TestMap(test.input, AK_F32, oracle.x).map, packed.base, y.map, workspace.base)
        #expect(relativeError(y.plain, oracle.y) > 10 * test.tolerance)
    }
}

@Suite(.serialized)
struct KernelMapTests {
    @Test(arguments: MapShape.cases)
    func plainLayoutThereAndBack(shape: MapShape) {
        for dtype in [AK_F32, AK_BF16] {
            let values = randomValues(shape.count, 4, dtype)
            onEachSet { pool, setting in
                let map = TestMap(shape, dtype)
                ak_map_from_nchw(pool.handle, values.map { Float($0) }, map.map)
                #expect(map.plain == values && map.borderIsZero, "\(setting)")
                var back = [Float](repeating: .nan, count: shape.count)
                ak_map_to_nchw(pool.handle, map.map, &back)
                #expect(back.map { Double($0) } == values, "\(setting)")
                ak_map_zero(pool.handle, map.map)
                #expect(map.bytes.allSatisfy { $0 == 0 }, "\(setting)")
            }
        }
    }
}
