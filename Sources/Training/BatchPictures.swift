package import FaceData
package import Tensors

/// The images of a batch as pixels again: what the network sees, not what the files hold.
package enum BatchPictures {
    /// - Parameters:
    ///   - images: (N, 3, height, width) as a loader makes them.
    ///   - indices: which of them.
    ///   - preprocessing: what made them; it is undone.
    ///   - planes: show the planes as red, green, blue in the order that the network gets them in, whatever they mean.
    package static func images(
        _ images: Tensor, _ indices: some Collection<Int>, _ preprocessing: Preprocessing, planes: Bool = false
    ) -> [RGBImage] {
        let area = preprocessing.width * preprocessing.height
        let values = images.floats
        return indices.map { index in
            precondition(3 * area * (index + 1) <= values.count, "image \(index) of a batch of \(images.shape)")
            var image = RGBImage(width: preprocessing.width, height: preprocessing.height)
            for channel in 0..<3 {
                let plane = planes || preprocessing.channelOrder == .rgb ? channel : 2 - channel
                for pixel in 0..<area {
                    let value = values[(3 * index + plane) * area + pixel] * preprocessing.scale + preprocessing.mean
                    image.pixels[3 * pixel + channel] = UInt8(min(255, max(0, value.rounded())))
                }
            }
            return image
        }
    }
}
