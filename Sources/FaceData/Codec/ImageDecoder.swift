internal import Tensors

/// What one thread keeps to decode image after image in the same memory. One thread at a time.
package final class ImageDecoder {
    /// The encoded bytes of the image at hand.
    let buffer = ByteBuffer()
    /// A JPEG is decoded at the least eighth of its size that covers this; nil: as it is.
    let cover: (width: Int, height: Int)?
    /// How long records were read so far, as their sources say; the rest of a record's time is decoding.
    package internal(set) var readSeconds = 0.0

    /// - Parameter cover: the size that is needed in the end, where images may be much larger.
    package init(covering cover: (width: Int, height: Int)? = nil) { self.cover = cover }

    /// Runs `read`, which puts an image's bytes into `buffer`, decodes them, and counts the time of the first.
    /// - Parameter place: where the bytes come from, for messages.
    func decode(
        into image: inout RGBImage, limits: ImageLimits, _ read: (ByteBuffer) throws(FaceDataError) -> Range<Int>,
        place: () -> String
    ) throws(FaceDataError) {
        let start = monotonicSeconds()
        let range: Range<Int>
        do throws(FaceDataError) {
            range = try read(buffer)
        } catch {
            readSeconds += monotonicSeconds() - start
            throw error
        }
        readSeconds += monotonicSeconds() - start
        do throws(ImageError) {
            try ImageCodec.decode(UnsafeRawBufferPointer(buffer[range]), into: &image, limits: limits, covering: cover)
        } catch {
            throw FaceDataError(error, file: place())
        }
    }
}
