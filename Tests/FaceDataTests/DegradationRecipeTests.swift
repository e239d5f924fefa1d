import FaceData
import Tensors
import Testing

@Suite struct DegradationRecipeTests {
    private func draws(_ recipe: DegradationRecipe, count: Int = 4000) -> [[Degradation]] {
        (0..<count).map { record in
            var random = ViewContext(seed: 3, record: record, epoch: 0, view: 0).random(.degradation)
            return recipe.draw(width: 112, height: 112, &random)
        }
    }

    private func apply(_ recipe: DegradationRecipe, _ image: RGBImage, _ context: ViewContext) -> RGBImage {
        var random = context.random(.degradation)
        return recipe.apply(to: image, &random, scratch: ImageScratch())
    }

    @Test func theNames() {
        #expect(DegradationRecipe.all.map(\.name) == ["adaface", "qgface", "ccface"])
        for recipe in DegradationRecipe.all { #expect(DegradationRecipe.named(recipe.name) == recipe) }
        #expect(DegradationRecipe.named("melt") == nil)
    }

    @Test(arguments: DegradationRecipe.all) func aPureFunctionOfTheContext(_ recipe: DegradationRecipe) {
        let image = testImage(4)
        let context = ViewContext(seed: 7, record: 12, epoch: 3, view: 1)
        let expected = apply(recipe, image, context)
        #expect(expected.width == 112 && expected.height == 112)
        let scratch = ImageScratch()
        for record in 0..<20 {
            var random = ViewContext(seed: 7, record: record, epoch: 3, view: 1).random(.degradation)
            _ = recipe.apply(to: image, &random, scratch: scratch)
        }
        var random = context.random(.degradation)
        #expect(recipe.apply(to: image, &random, scratch: scratch) == expected)
        // Another seed, record, epoch or view draws anew; some draws leave an image as it is, so over several.
        for change in 0..<4 {
            let different = (0..<12).contains { record in
                let one = ViewContext(seed: 7, record: record, epoch: 3, view: 1)
                let other = ViewContext(
                    seed: change == 0 ? 8 : 7, record: change == 1 ? record + 100 : record, epoch: change == 2 ? 4 : 3,
                    view: change == 3 ? 0 : 1)
                return apply(recipe, image, one) != apply(recipe, image, other)
            }
            #expect(different)
        }
    }

    /// Batches of degraded views do not depend on threads, and a position continues them.
    @Test func theLoaderGivesTheSameOnAnyThreads() throws {
        let source = MemorySource(classes: 3, perClass: 4, size: 112)
        let sampler = try EpochSampler(recordCount: 12, globalBatch: 4, seed: 4)
        func batches(threads: Int, position: Int = 0, count: Int = 6) throws -> [[Float]] {
            let loader = BatchLoader(
                source: source, sampler: sampler, position: position,
                options: .init(
                    seed: 4, threads: threads, prefetch: 2,
                    views: [View(), .degraded(.adaFace), .degraded(.qgFace), .degraded(.ccFace)]))
            return try (0..<count).map { _ in Array(try loader.next().images.floats) }
        }
        let one = try batches(threads: 1)
        for threads in [2, 4] {
            let same = try batches(threads: threads) == one
            #expect(same)
        }
        let rest = try batches(threads: 3, position: 16, count: 2)
        let continues = rest == Array(one[4...])
        #expect(continues)
    }

    @Test func adaFace() {
        let drawn = draws(.adaFace)
        var counts = [0, 0, 0]
        var kernels: Set<ResizeKernel> = []
        var orders: Set<String> = []
        var sides: Set<Int> = []
        for steps in drawn {
            var jitter = ""
            for step in steps {
                switch step {
                case .crop(_, let kernel):
                    counts[0] += 1
                    #expect(kernel == nil && counts[0] > 0)
                    #expect(steps.first == step)
                case .resample(let plan):
                    counts[1] += 1
                    #expect(plan.width == plan.height && (22...111).contains(plan.width) && plan.quality == nil)
                    kernels.formUnion([plan.down, plan.up])
                    sides.insert(plan.width)
                case .brightness(let factor):
                    counts[2] += 1
                    #expect((0.5...1.5).contains(factor))
                    jitter += "b"
                case .contrast(let factor):
                    #expect((0.5...1.5).contains(factor))
                    jitter += "c"
                case .saturation(let factor):
                    #expect((0.5...1.5).contains(factor))
                    jitter += "s"
                default: Issue.record("\(step)")
                }
            }
            if !jitter.isEmpty { orders.insert(jitter) }
        }
        // 800 ± 5 standard deviations of 25.
        #expect(counts.allSatisfy { (675...925).contains($0) }, "\(counts)")
        #expect(kernels == Set(ResizeKernel.openCV))
        #expect(orders == ["bcs", "bsc", "cbs", "csb", "sbc", "scb"])
        #expect(sides.count > 80)
    }

    @Test func qgFace() {
        var kernels: Set<ResizeKernel> = []
        var counts = [0, 0, 0]
        for steps in draws(.qgFace) {
            guard case .resample(let plan) = steps[0] else {
                Issue.record("\(steps)")
                continue
            }
            #expect((11...55).contains(plan.width) && plan.width == plan.height && plan.quality == 75)
            kernels.formUnion([plan.down, plan.up])
            var places: [Int] = []
            for step in steps.dropFirst() {
                switch step {
                case .crop(let region, .bilinear):
                    counts[0] += 1
                    #expect(Double(region.width * region.height) > 0.78 * 12544)
                    places.append(0)
                case .brightness(let factor), .contrast(let factor), .saturation(let factor):
                    #expect((0.8...1.2).contains(factor))
                    places.append(1)
                    if case .brightness = step { counts[1] += 1 }
                case .rotate(let degrees):
                    counts[2] += 1
                    #expect(abs(degrees) <= 45)
                    places.append(2)
                default: Issue.record("\(step)")
                }
            }
            #expect(places == places.sorted())
        }
        #expect(kernels == [.nearest, .box, .bilinear, .bicubic, .lanczos3])
        #expect(counts.allSatisfy { (675...925).contains($0) }, "\(counts)")
    }

    @Test func ccFace() {
        var compressed = 0
        var sides: Set<Int> = []
        for steps in draws(.ccFace) {
            guard steps.count == 1, case .resample(let plan) = steps[0] else {
                Issue.record("\(steps)")
                continue
            }
            #expect((8...56).contains(plan.width))
            sides.insert(plan.width)
            if let quality = plan.quality {
                compressed += 1
                #expect((60...95).contains(quality))
            }
        }
        #expect(sides == Set(8...56))
        #expect((1850...2150).contains(compressed), "\(compressed)")
    }

    /// A stage has a stream of its own: another one's probability or range moves none of its draws.
    @Test func stagesDoNotDisturbEachOther() {
        var changed = DegradationRecipe.qgFace
        changed.stages[0] = .init(.blur(sigma: 1...1), probability: 0)
        for (one, other) in zip(draws(.qgFace, count: 200), draws(changed, count: 200)) {
            #expect(Array(one.dropFirst()) == other)
        }
    }

    @Test func everyOperatorDrawsWithinItsRanges() {
        let operators: [DegradationOperator] = [
            .blur(sigma: 0.5...2), .motion(length: 3...9, angle: 0...180), .defocus(radius: 1...3),
            .noise(sigma: 2...12), .shotNoise(photons: 30...300), .jpeg(quality: 20...80), .gamma(exponent: 0.5...2),
            .brightness(factor: 0.5...1.5), .contrast(factor: 0.5...1.5), .saturation(factor: 0...2), .grey,
            .occlude(area: 0.02...0.3, aspect: 0.3...3.3, fill: .mean), .rotate(angle: -15...15),
            .crop(area: 0.2...1, aspect: 0.75...1.333, resized: nil),
            .reduce(.init(side: .choice([7, 14, 28]), down: [.box], up: [.linear, .bicubic])),
        ]
        let names = Set(operators.map(\.name))
        #expect(names.count == operators.count)
        for operation in operators {
            let drawn = draws(DegradationRecipe("one", [.init(operation)]), count: 300).flatMap { $0 }
            #expect(drawn.count == 300)
            for step in drawn {
                switch (operation, step) {
                case (.blur(let range), .blur(let value)), (.defocus(let range), .defocus(let value)),
                    (.gamma(let range), .gamma(let value)), (.brightness(let range), .brightness(let value)),
                    (.contrast(let range), .contrast(let value)), (.saturation(let range), .saturation(let value)),
                    (.rotate(let range), .rotate(let value)), (.noise(let range), .noise(let value, _)),
                    (.shotNoise(let range), .shotNoise(let value, _)):
                    #expect(range.contains(value))
                case (.motion(let lengths, let angles), .motion(let length, let angle)):
                    #expect(lengths.contains(length) && angles.contains(angle))
                case (.jpeg(let range), .jpeg(let quality)): #expect(range.contains(quality))
                case (.reduce, .resample(let plan)):
                    #expect([7, 14, 28].contains(plan.width) && plan.down == .box)
                case (.occlude, .occlude(_, .mean)), (.crop, .crop(_, nil)), (.grey, .grey): break
                default: Issue.record("\(operation.name) gave \(step)")
                }
            }
            #expect(operation == .grey || Set(drawn.map(\.description)).count > 2)
        }
    }

    @Test func sidesFollowTheShape() {
        let recipe = DegradationRecipe(
            "one", [.init(.reduce(.init(side: .pixels(28...28), down: [.box], up: [.box])))])
        var random = RandomStream(seed: 1, purpose: .test, index: 0)
        let drawn = recipe.draw(width: 96, height: 112, &random)
        #expect(drawn == [.resample(.init(width: 24, height: 28, down: .box, up: .box))])
    }

    @Test func plansAreByName() throws {
        let scratch = Scratch()
        let plan = DegradationPlan.drawn(.qgFace, seed: 5, epoch: 0)
        let face = testImage(2)
        func made(_ plan: DegradationPlan, _ name: String) throws -> RGBImage {
            try plan.apply(to: face, name: name, scratch: ImageScratch())
        }
        let one = try made(plan, "a/b.png")
        #expect(try made(plan, "a/b.png") == one)
        #expect(try made(plan, "a/c.png") != one)
        #expect(try made(.drawn(.qgFace, seed: 5, epoch: 1), "a/b.png") != one)
        #expect(try made(.drawn(.qgFace, seed: 6, epoch: 0), "a/b.png") != one)
        #expect(try made(.same(.reduce(side: 16)), "x") == Degradation.reduce(side: 16).apply(to: face))
        #expect(try plan.report(for: "a/b.png", width: 112, height: 112).hasPrefix("reduce side="))
        let table = try DegradationTable(scratch.write("t.tsv", "# image\tkind\tvalue\tseed\na\tnone\t0\t1\n"))
        #expect(try DegradationPlan.listed(table).report(for: "a", width: 1, height: 1) == "none")
        #expect(throws: FaceDataError.self) { try DegradationPlan.listed(table).report(for: "b", width: 1, height: 1) }
    }
}
