import FaceData
import Tensors
import Testing

/// The options with one strength changed.
private func options(
    _ base: SyntheticFaces.Options = .clean, _ strength: WritableKeyPath<SyntheticFaces.Options, Float>, _ value: Float
) -> SyntheticFaces.Options {
    var options = base
    options[keyPath: strength] = value
    return options
}

private func luma(_ image: RGBImage) -> [Float] {
    stride(from: 0, to: image.pixels.count, by: 3).map { at -> Float in
        let r = Float(image.pixels[at]), g = Float(image.pixels[at + 1]), b = Float(image.pixels[at + 2])
        return 0.299 * r + 0.587 * g + 0.114 * b
    }
}

/// Means of luma over 4 x 4 cells of 28 pixels.
private func thumbnail(_ image: RGBImage) -> [Float] {
    var cells = [Float](repeating: 0, count: 16)
    for (i, value) in luma(image).enumerated() { cells[i / 112 / 28 * 4 + i % 112 / 28] += value / 784 }
    return cells
}

/// Mean absolute difference of two images, grey levels.
private func difference(_ a: RGBImage, _ b: RGBImage) -> Float {
    let sum = zip(a.pixels, b.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
    return Float(sum) / Float(a.pixels.count)
}

/// Normalised correlation of two images' luma.
private func correlation(_ a: [Float], _ b: [Float]) -> Float {
    let ma = a.reduce(0, +) / Float(a.count), mb = b.reduce(0, +) / Float(b.count)
    var ab: Float = 0
    var aa: Float = 0
    var bb: Float = 0
    for (x, y) in zip(a, b) {
        ab += (x - ma) * (y - mb)
        aa += (x - ma) * (x - ma)
        bb += (y - mb) * (y - mb)
    }
    return ab / max(1e-6, (aa * bb).squareRoot())
}

/// The best accuracy that one threshold on a score reaches.
private func bestAccuracy(same: [Float], different: [Float]) -> Float {
    let all = (same.map { ($0, true) } + different.map { ($0, false) }).sorted { $0.0 > $1.0 }
    var right = different.count, best = 0
    for (_, isSame) in all {
        right += isSame ? 1 : -1
        best = max(best, right)
    }
    return Float(best) / Float(all.count)
}

@Suite struct SyntheticFacesTests {
    @Test func anImageDependsOnlyOnSeedIdentityAndIndex() async {
        let wanted = (0..<12).map { SyntheticFaces(seed: 3).image(identity: 1000 + $0 / 3, index: $0 % 3) }
        let faces = SyntheticFaces(seed: 3)
        // All at once on several threads, in no particular order, after other images.
        let got = await withTaskGroup(of: (Int, RGBImage, SyntheticFaceAttributes).self) { group in
            for i in (0..<12).reversed() {
                group.addTask {
                    _ = faces.image(identity: i, index: 77)
                    let (image, attributes) = faces.image(identity: 1000 + i / 3, index: i % 3)
                    return (i, image, attributes)
                }
            }
            var all: [Int: (RGBImage, SyntheticFaceAttributes)] = [:]
            for await (i, image, attributes) in group { all[i] = (image, attributes) }
            return all
        }
        for i in 0..<12 {
            #expect(got[i]?.0 == wanted[i].0)
            #expect(got[i]?.1 == wanted[i].1)
        }
    }

    @Test func recordedImagesAreStillDrawnTheSame() {
        // Cell means, not a hash: libraries of other systems may round a cosine differently.
        let faces = SyntheticFaces(seed: 42)
        for (identity, index, recorded) in Self.recorded {
            let cells = thumbnail(faces.image(identity: identity, index: index).0)
            #expect(recorded.count == cells.count)
            for (cell, value) in zip(cells, recorded) {
                #expect(abs(cell - value) < 0.5, "identity \(identity), image \(index): \(cells)")
            }
        }
    }

    /// Identity, index, and the image's thumbnail.
    private static let recorded: [(Int, Int, [Float])] = [
        (
            0, 0,
            [
                106.7, 98.0, 123.1, 140.3, 87.2, 119.8, 167.0, 146.8,
                97.3, 129.1, 175.6, 150.4, 114.4, 110.5, 153.1, 145.0,
            ]
        ),
        (
            0, 1,
            [
                30.8, 36.6, 29.8, 51.9, 43.5, 67.0, 63.9, 59.6,
                44.5, 65.2, 80.2, 66.9, 47.8, 64.3, 66.0, 72.3,
            ]
        ),
        (
            123_456, 7,
            [
                112.2, 120.8, 114.6, 110.7, 110.1, 132.4, 121.6, 103.4,
                109.0, 135.1, 125.9, 104.3, 101.9, 114.7, 109.5, 106.8,
            ]
        ),
    ]

    @Test func anotherSeedHasOtherPeopleAndAnotherIndexAnotherImage() {
        let a = SyntheticFaces(seed: 1, options: .clean), b = SyntheticFaces(seed: 2, options: .clean)
        #expect(difference(a.image(identity: 0, index: 0).0, b.image(identity: 0, index: 0).0) > 4)
        let varied = SyntheticFaces(seed: 1)
        #expect(difference(varied.image(identity: 0, index: 0).0, varied.image(identity: 0, index: 1).0) > 4)
    }

    @Test func identitiesFarApartInTheSeedSpaceAreDrawn() {
        let faces = SyntheticFaces(seed: .max, options: .clean)
        let first = faces.image(identity: 0, index: 0).0
        let last = faces.image(identity: 0xFFFF_FFFF, index: 0xFFFF_FFFF).0
        #expect(difference(first, last) > 4)
    }

    @Test func cleanImagesOfOneIdentityAreTheSamePicture() {
        let faces = SyntheticFaces(seed: 5, options: .clean)
        for identity in 0..<6 {
            let (first, attributes) = faces.image(identity: identity, index: 0)
            #expect(faces.image(identity: identity, index: 9).0 == first)
            #expect(attributes.degradation == 0)
            #expect(attributes.occlusion == 0)
            #expect(attributes.yaw == 0 && attributes.pitch == 0 && attributes.roll == 0)
            #expect(attributes.exposure == 0 && attributes.mouthOpen == 0 && attributes.smile == 0)
            #expect(!attributes.glasses)
        }
    }

    @Test func everyTwoIdentitiesDiffer() {
        let faces = SyntheticFaces(seed: 7, options: .clean)
        let images = (0..<40).map { faces.image(identity: $0, index: 0).0 }
        var least = Float.infinity
        for i in images.indices {
            for j in 0..<i { least = min(least, difference(images[i], images[j])) }
        }
        // Grey levels over the whole frame, background included, of the two people most alike.
        #expect(least > 2, "two identities look alike: \(least)")
    }

    @Test func landmarksOfOneIdentityLieCloserThanOthers() {
        // Without the alignment's error the landmarks' shape is the person's, the pose's and the expression's.
        var mild = options(.clean, \.pose, 0.25)
        mild.expression = 0.25
        let faces = SyntheticFaces(seed: 11, options: mild)
        func shape(_ identity: Int, _ index: Int) -> [SIMD2<Float>] {
            faces.image(identity: identity, index: index).1.landmarks
        }
        func distance(_ a: [SIMD2<Float>], _ b: [SIMD2<Float>]) -> Float {
            zip(a, b).reduce(0) { sum, pair in
                let d = pair.0 - pair.1
                return sum + d.x * d.x + d.y * d.y
            }
        }
        var same: Float = 0, other: Float = 0
        for i in 0..<60 {
            same += distance(shape(i, 0), shape(i, 1))
            other += distance(shape(i, 0), shape(i + 1, 0))
        }
        #expect(same < 0.5 * other, "landmark distance \(same) within, \(other) between")
    }

    @Test func pixelsTellIdentitiesApartOnlyWithoutNuisance() {
        func accuracy(_ options: SyntheticFaces.Options) -> Float {
            let faces = SyntheticFaces(seed: 13, options: options)
            let a = (0..<150).map { luma(faces.image(identity: $0, index: 0).0) }
            let b = (0..<150).map { luma(faces.image(identity: $0, index: 1).0) }
            let same = (0..<150).map { correlation(a[$0], b[$0]) }
            let different = (0..<150).map { correlation(a[$0], b[($0 + 1) % 150]) }
            return bestAccuracy(same: same, different: different)
        }
        var mild = options(.clean, \.light, 0.3)
        mild.expression = 0.2
        #expect(accuracy(mild) > 0.85)
        // The whole point of the default strengths; 0.7 is the bound that untrained features must stay under.
        #expect(accuracy(SyntheticFaces.Options()) < 0.7)
    }
}

@Suite struct SyntheticAttributesTests {
    @Test func valuesLieInTheirRanges() {
        let faces = SyntheticFaces(seed: 17)
        var sum = [SIMD2<Float>](repeating: .zero, count: 5)
        for i in 0..<200 {
            let a = faces.image(identity: i, index: i).1
            #expect(a.landmarks.count == 5)
            for k in 0..<5 {
                #expect((0...111).contains(a.landmarks[k].x) && (0...111).contains(a.landmarks[k].y))
                sum[k] += a.landmarks[k] / 200
            }
            #expect(abs(a.yaw) <= 50 && abs(a.pitch) <= 28 && abs(a.roll) <= 10)
            let direction = a.lightDirection * a.lightDirection
            #expect(abs(direction.x + direction.y + direction.z - 1) < 1e-4)
            for fraction in [a.lightContrast, a.mouthOpen, a.quantisation, a.occlusion, abs(a.smile)] {
                #expect((0...1).contains(fraction))
            }
            #expect((0..<1).contains(a.degradation))
            #expect((14...112).contains(a.resolution))
            #expect(a.blurSigma >= 0 && a.motionLength >= 0 && (0...0.5).contains(a.noiseSigma))
        }
        for (mean, template) in zip(sum, SyntheticFaces.template) {
            #expect(abs(mean.x - template.x) < 1.5 && abs(mean.y - template.y) < 2.5, "\(mean) against \(template)")
        }
    }

    @Test func eyeLandmarksPointAtTheEyes() {
        // On clean portraits the darkest window of an iris' size near an eye is, on average, at the landmark.
        let faces = SyntheticFaces(seed: 19, options: .clean)
        var offsets: [Float] = [0, 0]
        for identity in 0..<40 {
            let (image, attributes) = faces.image(identity: identity, index: 0)
            let grey = luma(image)
            for side in 0..<2 {
                let eye = attributes.landmarks[side]
                let y = Int(eye.y.rounded())
                var darkest = (value: Float.infinity, x: 0)
                for x in Int(eye.x) - 9...Int(eye.x) + 9 {
                    var sum: Float = 0
                    for row in y - 2...y + 2 { sum += grey[112 * row + x - 4...112 * row + x + 4].reduce(0, +) }
                    if sum < darkest.value { darkest = (sum, x) }
                }
                offsets[side] += (Float(darkest.x) - eye.x) / 40
            }
        }
        #expect(abs(offsets[0]) < 1.2 && abs(offsets[1]) < 1.2, "\(offsets)")
    }

    @Test func degradationGrowsWithItsStrength() {
        let strengths: [Float] = [0, 0.5, 1, 2]
        for identity in 0..<30 {
            let all = strengths.map { strength in
                SyntheticFaces(seed: 23, options: options(.clean, \.degradation, strength))
                    .image(identity: identity, index: 4).1
            }
            #expect(all[0].degradation == 0)
            for (less, more) in zip(all, all.dropFirst()) {
                #expect(less.degradation < more.degradation)
                #expect(less.blurSigma <= more.blurSigma && less.motionLength <= more.motionLength)
                #expect(less.resolution >= more.resolution && less.noiseSigma <= more.noiseSigma)
                #expect(less.quantisation <= more.quantisation)
                #expect(less.landmarks == more.landmarks)
            }
        }
    }

    @Test func degradedPicturesAreFurtherFromTheOriginal() {
        var near: Float = 0, far: Float = 0
        for identity in 0..<40 {
            func image(_ strength: Float) -> RGBImage {
                SyntheticFaces(seed: 29, options: options(.clean, \.degradation, strength))
                    .image(identity: identity, index: 1).0
            }
            let original = image(0)
            near += difference(original, image(0.5))
            far += difference(original, image(2))
        }
        #expect(near > 0)
        #expect(far > 1.5 * near)
    }

    @Test func occlusionIsMeasuredAndGrowsMoreFrequent() {
        func hidden(_ strength: Float) -> [Float] {
            let faces = SyntheticFaces(seed: 31, options: options(.clean, \.occlusion, strength))
            return (0..<150).map { faces.image(identity: $0, index: 0).1.occlusion }
        }
        let none = hidden(0), some = hidden(1), many = hidden(3)
        #expect(none.allSatisfy { $0 == 0 })
        #expect(some.contains { $0 > 0.15 })
        #expect(some.filter { $0 > 0.05 }.count < many.filter { $0 > 0.05 }.count)
    }
}
