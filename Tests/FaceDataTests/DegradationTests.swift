import FaceData
import Tensors
import Testing

@Suite struct DegradationTests {
    private struct Case {
        let operation: String
        let parameter: String
        let source: RGBImage
        let expected: RGBImage
    }

    private func cases(_ operation: String) -> [Case] {
        func image(_ fields: ArraySlice<Substring>) -> RGBImage {
            let digits = Array(fields[fields.startIndex + 2].utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).map {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
            }
            return RGBImage(width: Int(fields.first!)!, height: Int(fields[fields.startIndex + 1])!, pixels: bytes)
        }
        let text = String(decoding: Fixture.bytes("resample.txt"), as: UTF8.self)
        return text.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0[0] == operation }.map {
            Case(
                operation: operation, parameter: String($0[1]), source: image($0[2..<5]), expected: image($0[5..<8]))
        }
    }

    private func largestDifference(_ a: RGBImage, _ b: RGBImage) -> Int {
        guard a.width == b.width, a.height == b.height else { return 256 }
        return zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 0
    }

    @Test(arguments: ResizeKernel.antialiased + [.nearest]) func resizingIsPillows(_ filter: ResizeKernel) {
        let cases = cases("resize").filter { $0.parameter == filter.rawValue }
        #expect(cases.count == 10)
        for item in cases {
            let resized = item.source.resized(width: item.expected.width, height: item.expected.height, filter)
            #expect(
                largestDifference(resized, item.expected) == 0,
                "\(item.source.width)x\(item.source.height) to \(item.expected.width)x\(item.expected.height)")
        }
    }

    @Test func reducingBlurringCompressingAndGamma() throws {
        for (operation, count, tolerance) in [("reduce", 2, 0), ("blur", 3, 1), ("jpeg", 3, 0), ("gamma", 2, 0)] {
            let cases = cases(operation)
            #expect(cases.count == count)
            for item in cases {
                let degradation = try #require(
                    Degradation(kind: operation, value: Double(item.parameter)!, seed: 0))
                let result = degradation.apply(to: item.source)
                #expect(
                    largestDifference(result, item.expected) <= tolerance, "\(operation) \(item.parameter)")
            }
        }
    }

    /// Pillow cuts fractions off where this rounds.
    @Test func coloursAreNearPillows() throws {
        for (name, count) in [("brightness", 3), ("contrast", 3), ("saturation", 3), ("grey", 1)] {
            let cases = cases(name)
            #expect(cases.count == count)
            for item in cases {
                let factor = try #require(Double(item.parameter))
                let degradation: Degradation =
                    switch name {
                    case "brightness": .brightness(factor)
                    case "contrast": .contrast(factor)
                    case "saturation": .saturation(factor)
                    default: .grey
                    }
                let result = degradation.apply(to: item.source)
                #expect(largestDifference(result, item.expected) <= (name == "grey" ? 0 : 1), "\(name) \(factor)")
            }
        }
    }

    @Test func noiseHasItsDeviationAndItsSeed() {
        let grey = RGBImage(width: 80, height: 80, fill: (128, 128, 128))
        let one = Degradation.noise(sigma: 12, seed: 5).apply(to: grey)
        #expect(one == Degradation.noise(sigma: 12, seed: 5).apply(to: grey))
        #expect(one != Degradation.noise(sigma: 12, seed: 6).apply(to: grey))
        let differences = one.pixels.map { Double($0) - 128 }
        let mean = differences.reduce(0, +) / Double(differences.count)
        let variance = differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count) - mean * mean
        #expect(abs(mean) < 0.4)
        #expect(abs(variance.squareRoot() - 12) < 0.3)
    }

    @Test func nothingIsDoneToUntouchedImages() {
        let image = testImage(1, width: 20, height: 20)
        for degradation in [Degradation.none, .blur(sigma: 0), .gamma(1), .noise(sigma: 0, seed: 1), .reduce(side: 20)] {
            #expect(degradation.apply(to: image) == image)
        }
    }

    @Test func valuesOutOfRangeAreRefused() {
        for (kind, value) in [
            ("reduce", 0), ("reduce", 8.5), ("blur", -1), ("blur", .nan), ("jpeg", 0), ("jpeg", 101), ("gamma", 0),
            ("noise", -1), ("noise", .infinity), ("melt", 1),
        ] {
            #expect(Degradation(kind: kind, value: value, seed: 0) == nil, "\(kind) \(value)")
        }
    }

    @Test func variantsOfASet() throws {
        let scratch = Scratch()
        let header = "# image\tkind\tvalue\tseed\n"
        let path = scratch.write("mixed.tsv", header + "a\treduce\t40\t3\nb\tnoise\t8.5\t7\nc\tnone\t0\t1\n")
        let table = PairVariant.mixed(try DegradationTable(path))
        #expect(try table.degradation(of: "a", isSecond: false) == .reduce(side: 40))
        #expect(try table.degradation(of: "b", isSecond: true) == .noise(sigma: 8.5, seed: 7))
        #expect(try table.degradation(of: "c", isSecond: true) == .none)
        #expect(throws: FaceDataError.self) { try table.degradation(of: "d", isSecond: false) }
        let one = PairVariant.reduced(side: 16, .one)
        #expect(try one.degradation(of: "a", isSecond: false) == .none)
        #expect(try one.degradation(of: "a", isSecond: true) == .reduce(side: 16))
        #expect(!one.isSideIndependent && table.isSideIndependent)
        let both = PairVariant.reduced(side: 16, .both)
        #expect(try both.degradation(of: "a", isSecond: false) == .reduce(side: 16))
        let first = PairVariant.reduced(side: 8, .first, kernels: .init(down: .bilinear, up: .linear))
        #expect(
            try first.degradation(of: "a", isSecond: false)
                == .resample(.init(width: 8, height: 8, down: .bilinear, up: .linear)))
        #expect(try first.degradation(of: "a", isSecond: true) == .none)
        #expect(!first.isSideIndependent && both.isSideIndependent)
        #expect(
            [first, one, both, .original].map(\.words) == [
                "8 px (down bilinear, up linear), first image", "16 px, second image", "16 px, both images", "none",
            ])
        for line in [
            "a\tblur\t1\n", "a\tblur\tx\t1\n", "a\tjpeg\t0\t1\n", "a\tnone\t0\t1\na\tnone\t0\t1\n", "a\tnone\t0\t-1\n",
        ] {
            let error = #expect(throws: FaceDataError.self) {
                try DegradationTable(scratch.write("bad.tsv", header + line))
            }
            #expect(error?.place == .line(line.filter { $0 == "\n" }.count + 1))
        }
        #expect(throws: FaceDataError.self) { try DegradationTable(scratch.write("bad.tsv", header)) }
    }

    @Test(.enabled(if: Fixture.realFaces != nil, "set ACUITY_FACES to the folder of real faces"))
    func theProtocolOfRealFaces() throws {
        let protocolFolder = Fixture.realFaces! + "/lfw-protocol"
        let table = try DegradationTable(protocolFolder + "/lfw-mixed.tsv")
        let set = try PairSet.lfw(pairs: protocolFolder + "/pairs.txt", folder: Fixture.realFaces! + "/lfw")
        #expect(set.imageCount == 7701 && table.count == 7701 && set.pairs.count == 6000 && set.foldCount == 10)
        for fold in 0..<10 {
            #expect(set.pairs[600 * fold..<600 * (fold + 1)].allSatisfy { $0.fold == fold })
            #expect(set.pairs[600 * fold..<600 * fold + 300].allSatisfy { $0.isSame })
            #expect(set.pairs[600 * fold + 300..<600 * (fold + 1)].allSatisfy { !$0.isSame })
        }
        for index in 0..<set.imageCount {
            let degradation = try table.degradation(of: set.key(of: index))
            if index % 200 == 0 {
                let image = degradation.apply(to: try set.image(at: index))
                #expect(image.width == 112 && image.height == 112)
            }
        }
    }
}
