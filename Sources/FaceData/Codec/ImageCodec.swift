internal import CImageCodecs
package import Tensors

/// What an untrusted image may ask for.
package struct ImageLimits: Sendable, Equatable {
    /// The longest accepted file, in bytes.
    package var encodedBytes: Int
    /// The largest accepted width x height.
    package var pixels: Int

    package init(encodedBytes: Int = 16 << 20, pixels: Int = 4096 * 4096) {
        self.encodedBytes = max(0, encodedBytes)
        self.pixels = max(0, pixels)
    }

    fileprivate var raw: ac_limits { ac_limits(encoded_bytes: encodedBytes, pixels: pixels) }
}

/// Why an image was not decoded or encoded. It knows no file: callers add where the bytes came from.
package struct ImageError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Kind: Sendable { case unknownFormat, tooLarge, corrupt, unsupported, failed }
    package let kind: Kind
    package let description: String
}

/// JPEG and PNG in memory to 8-bit RGB and back.
package enum ImageCodec {
    package enum Format: Sendable { case jpeg, png }
    package enum Subsampling: Sendable { case full444, half420 }

    package struct Info: Sendable, Equatable {
        package let format: Format
        package let width: Int
        package let height: Int
        package let isGrey: Bool
    }

    /// For reports.
    package static var pngVersion: String { String(cString: ac_png_version()) }

    /// The format that the first bytes announce; nil when it is neither.
    package static func format(of bytes: [UInt8]) -> Format? {
        switch ac_sniff(bytes, bytes.count) {
        case AC_FORMAT_JPEG: .jpeg
        case AC_FORMAT_PNG: .png
        default: nil
        }
    }

    /// Reads the header only.
    package static func info(_ bytes: [UInt8], limits: ImageLimits = ImageLimits()) throws(ImageError) -> Info {
        var raw = limits.raw
        var info = ac_info()
        try check { message in ac_read_info(bytes, bytes.count, &raw, &info, message) }
        return Info(
            format: info.format == AC_FORMAT_JPEG ? .jpeg : .png, width: Int(info.width), height: Int(info.height),
            isGrey: info.grey)
    }

    /// Decodes to RGB: grey is repeated over the channels, alpha is dropped. A truncated or damaged image is an error.
    package static func decode(_ bytes: [UInt8], limits: ImageLimits = ImageLimits()) throws(ImageError) -> RGBImage {
        // Most images are aligned faces.
        var image = RGBImage(width: 112, height: 112)
        var failure: ImageError?
        bytes.withUnsafeBytes { bytes in
            do throws(ImageError) {
                try decode(bytes, into: &image, limits: limits)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return image
    }

    /// Decodes into an image's memory where it has the right size, and into new memory otherwise.
    /// - Parameter cover: a JPEG is decoded at the least eighth of its width and height that covers this size; a PNG, and
    ///   a JPEG that covers it at none, as it is.
    package static func decode(
        _ bytes: UnsafeRawBufferPointer, into image: inout RGBImage, limits: ImageLimits,
        covering cover: (width: Int, height: Int)? = nil
    ) throws(ImageError) {
        var raw = limits.raw
        var info = ac_info()
        let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        let (coverWidth, coverHeight) = (Int32(clamping: cover?.width ?? 0), Int32(clamping: cover?.height ?? 0))
        var hasOtherSize = true
        while hasOtherSize {
            let (width, height) = (Int32(clamping: image.width), Int32(clamping: image.height))
            try check { message in
                let status = image.pixels.withUnsafeMutableBufferPointer { pixels in
                    ac_decode_into(
                        start, bytes.count, &raw, coverWidth, coverHeight, pixels.baseAddress, width, height, &info,
                        message)
                }
                hasOtherSize = status == AC_OTHER_SIZE
                return hasOtherSize ? AC_OK : status
            }
            if hasOtherSize { image = RGBImage(width: Int(info.width), height: Int(info.height)) }
        }
    }

    /// JPEG as Pillow writes it: baseline, accurate integer DCT. Quality 1...100.
    package static func encodeJPEG(
        _ image: RGBImage, quality: Int = 95, subsampling: Subsampling = .half420
    ) throws(ImageError) -> [UInt8] {
        try encoded { bytes, count, message in
            ac_encode_jpeg(
                image.pixels, Int32(clamping: image.width), Int32(clamping: image.height), Int32(clamping: quality),
                subsampling == .full444 ? AC_SUBSAMPLING_444 : AC_SUBSAMPLING_420, bytes, count, message)
        }
    }

    package static func encodePNG(_ image: RGBImage) throws(ImageError) -> [UInt8] {
        try encoded { bytes, count, message in
            ac_encode_png(
                image.pixels, Int32(clamping: image.width), Int32(clamping: image.height), bytes, count, message)
        }
    }

    private static func encoded(
        _ body: (
            UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>, UnsafeMutablePointer<Int>, UnsafeMutablePointer<CChar>
        ) -> ac_status
    ) throws(ImageError) -> [UInt8] {
        var pointer: UnsafeMutablePointer<UInt8>?
        var count = 0
        try check { message in body(&pointer, &count, message) }
        defer { ac_free(pointer) }
        return [UInt8](UnsafeBufferPointer(start: pointer, count: count))
    }

    private static func check(_ body: (UnsafeMutablePointer<CChar>) -> ac_status) throws(ImageError) {
        let failure = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(AC_MESSAGE_BYTES)) {
            message -> ImageError? in
            message.initialize(repeating: 0)
            let status = body(message.baseAddress!)
            if status == AC_OK { return nil }
            let kind: ImageError.Kind =
                switch status {
                case AC_UNKNOWN_FORMAT: .unknownFormat
                case AC_TOO_LARGE: .tooLarge
                case AC_CORRUPT: .corrupt
                case AC_UNSUPPORTED: .unsupported
                default: .failed
                }
            return ImageError(kind: kind, description: String(cString: message.baseAddress!))
        }
        if let failure { throw failure }
    }
}
