import CImageCodecs
package import Tensors

/// PNG files.
package enum PNG {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// The bytes of a PNG file, 8-bit RGB.
    ///
    /// - Throws: `Failure` where the encoder runs out of memory or refuses the size.
    package static func encode(_ image: RGBImage) throws(Failure) -> [UInt8] {
        var (bytes, count): (UnsafeMutablePointer<UInt8>?, Int) = (nil, 0)
        var message = [CChar](repeating: 0, count: AC_MESSAGE_BYTES)
        let status = image.pixels.withUnsafeBufferPointer { pixels in
            ac_encode_png(pixels.baseAddress, Int32(image.width), Int32(image.height), &bytes, &count, &message)
        }
        guard status == AC_OK, let bytes else {
            let reason = String(decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw Failure(description: "cannot encode a PNG of \(image.width) x \(image.height) pixels: \(reason)")
        }
        defer { ac_free(bytes) }
        return [UInt8](UnsafeBufferPointer(start: bytes, count: count))
    }
}
