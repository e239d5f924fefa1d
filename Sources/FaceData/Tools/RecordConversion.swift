internal import Tensors

/// What happens to an image on its way into a record.
package struct RecordConversion: Sendable, Equatable {
    /// Width and height of what is written: other shapes are resized to cover the square and cut at the centre, as the
    /// loader does it (`Preprocessing.fitted`). nil: as it is.
    package var size: Int?
    /// Of the JPEG, 1...100.
    package var quality: Int
    /// Encode every image anew; otherwise the bytes of an image that needs no resizing are copied.
    package var reencodes: Bool

    package init(size: Int? = nil, quality: Int = 95, reencodes: Bool = false) {
        precondition((1...100).contains(quality) && size.map { (1...4096).contains($0) } != false, "no such conversion")
        self.size = size
        self.quality = quality
        self.reencodes = reencodes
    }

    /// Decodes the image, which shows whether it is whole, and gives the bytes to store.
    func apply(_ bytes: [UInt8]) throws(ImageError) -> (bytes: [UInt8], width: Int, height: Int) {
        let image = try ImageCodec.decode(bytes)
        var fitted = image
        if let size { fitted = Preprocessing(faceWidth: size, faceHeight: size).fitted(image) }
        guard reencodes || fitted.width != image.width || fitted.height != image.height else {
            return (bytes, image.width, image.height)
        }
        return (try ImageCodec.encodeJPEG(fitted, quality: quality), fitted.width, fitted.height)
    }
}
