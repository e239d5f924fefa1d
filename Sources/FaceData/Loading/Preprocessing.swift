internal import CImageCodecs
package import Tensors

/// How an aligned face becomes a network's input. It travels with the weights, because a network only works with the
/// preprocessing it was trained with.
package struct Preprocessing: Sendable, Equatable, Codable {
    package enum ChannelOrder: String, Sendable, Codable { case rgb, bgr }

    package struct Crop: Sendable, Equatable, Codable {
        package var x: Int
        package var y: Int
        package var width: Int
        package var height: Int

        package init(x: Int, y: Int, width: Int, height: Int) {
            self.x = x
            self.y = y
            self.width = width
            self.height = height
        }
    }

    package var channelOrder: ChannelOrder
    /// A byte v becomes (v - mean) / scale.
    package var mean: Float
    package var scale: Float
    /// The size of an aligned face; other images are resized to it.
    package var faceWidth: Int
    package var faceHeight: Int
    /// The part of the face that the network sees.
    package var crop: Crop

    /// - Parameter crop: the whole face by default.
    package init(
        channelOrder: ChannelOrder = .rgb, mean: Float = 127.5, scale: Float = 127.5, faceWidth: Int = 112,
        faceHeight: Int = 112, crop: Crop? = nil
    ) {
        let crop = crop ?? Crop(x: 0, y: 0, width: faceWidth, height: faceHeight)
        precondition(
            faceWidth > 0 && faceHeight > 0 && crop.x >= 0 && crop.y >= 0 && crop.width > 0 && crop.height > 0
                && crop.x + crop.width <= faceWidth && crop.y + crop.height <= faceHeight,
            "crop \(crop) of a face of \(faceWidth) x \(faceHeight)")
        precondition(mean.isFinite && scale.isFinite && scale != 0, "(v - \(mean)) / \(scale)")
        self.channelOrder = channelOrder
        self.mean = mean
        self.scale = scale
        self.faceWidth = faceWidth
        self.faceHeight = faceHeight
        self.crop = crop
    }

    /// insightface, CR-FIQA, ElasticFace: RGB, (v/255 - 0.5) / 0.5.
    package static let arcFace = Preprocessing()
    /// AdaFace, QGFace: the same in BGR.
    package static let adaFace = Preprocessing(channelOrder: .bgr)
    /// MagFace: BGR, v/255.
    package static let magFace = Preprocessing(channelOrder: .bgr, mean: 0, scale: 255)
    /// The 112 x 96 MobileFaceNet: columns 8...103, RGB, (v - 127.5) / 128.
    package static let mobileFaceNet112x96 = Preprocessing(
        scale: 128, crop: Crop(x: 8, y: 0, width: 96, height: 112))

    /// The network's input: width and height.
    package var width: Int { crop.width }
    package var height: Int { crop.height }
    /// Floats of one image, 3 x height x width.
    package var valueCount: Int { 3 * width * height }

    /// The image at the size of an aligned face. Another shape is resized so that it covers the face, and cut at the
    /// centre.
    package func fitted(_ image: RGBImage) -> RGBImage {
        if image.width == faceWidth, image.height == faceHeight { return image }
        let factor = max(Double(faceWidth) / Double(image.width), Double(faceHeight) / Double(image.height))
        let width = max(faceWidth, Int((Double(image.width) * factor).rounded()))
        let height = max(faceHeight, Int((Double(image.height) * factor).rounded()))
        let resized = image.resized(width: width, height: height, .bilinear)
        return resized.cropped(
            x: (width - faceWidth) / 2, y: (height - faceHeight) / 2, width: faceWidth, height: faceHeight)
    }

    /// What each byte value becomes.
    package struct Table: Sendable {
        fileprivate let values: [Float]
        /// Whether single precision gives the same bits, as it does for every mean and scale in use.
        fileprivate let isArithmetic: Bool
    }

    /// What each byte value becomes, computed once per loader.
    package func table() -> Table {
        let values = (0..<256).map { Float((Double($0) - Double(mean)) / Double(scale)) }
        return Table(values: values, isArithmetic: (0..<256).allSatisfy { values[$0] == (Float($0) - mean) / scale })
    }

    /// Writes one input as planes: 3 x height x width.
    /// - Parameters:
    ///   - image: a face of the aligned size (see `fitted`).
    ///   - flipped: mirrored left to right.
    ///   - table: `table()`.
    package func write(
        _ image: RGBImage, flipped: Bool, table: Table, to planes: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(
            image.width == faceWidth && image.height == faceHeight && planes.count == valueCount,
            "an image of \(image.width) x \(image.height) where \(faceWidth) x \(faceHeight) is expected")
        guard let first = planes.baseAddress else { return }
        let area = width * height
        let isRGB = channelOrder == .rgb
        let (red, green, blue) = (first + (isRGB ? 0 : 2 * area), first + area, first + (isRGB ? 2 * area : 0))
        image.pixels.withUnsafeBufferPointer { pixels in
            guard let start = pixels.baseAddress.map({ $0 + 3 * (crop.y * faceWidth + crop.x) }) else { return }
            if table.isArithmetic {
                ac_planes(
                    start, 3 * faceWidth, Int32(width), Int32(height), flipped, mean, scale, red, green, blue)
                return
            }
            for y in 0..<height {
                for x in 0..<width {
                    let pixel = start + 3 * (y * faceWidth + (flipped ? width - 1 - x : x))
                    red[y * width + x] = table.values[Int(pixel[0])]
                    green[y * width + x] = table.values[Int(pixel[1])]
                    blue[y * width + x] = table.values[Int(pixel[2])]
                }
            }
        }
    }

    /// Network inputs of several images: (count, 3, height, width).
    package func tensor(_ images: [RGBImage], flipped: Bool = false) -> Tensor {
        let result = Tensor([images.count, 3, height, width])
        let table = table()
        for (index, image) in images.enumerated() {
            let planes = UnsafeMutableBufferPointer(
                rebasing: result.floats[index * valueCount..<(index + 1) * valueCount])
            write(fitted(image), flipped: flipped, table: table, to: planes)
        }
        return result
    }
}
