package import CKernels

/// The shape of one image's feature maps: channels x height x width.
package struct MapShape: Sendable, Hashable, CustomStringConvertible {
    package var channels: Int
    package var height: Int
    package var width: Int

    package init(_ channels: Int, _ height: Int, _ width: Int) {
        self.channels = channels
        self.height = height
        self.width = width
    }

    /// Elements per image.
    package var count: Int { channels * height * width }

    /// Bytes of a batch of `batch` such maps in the blocked layout.
    package func byteCount(batch: Int, _ dtype: ak_dtype = AK_F32) -> Int {
        ak_map_bytes(dtype, Int32(batch), Int32(channels), Int32(height), Int32(width))
    }

    /// A batch of such maps at `data`.
    package func map(_ data: UnsafeMutableRawPointer?, batch: Int, _ dtype: ak_dtype = AK_F32) -> ak_map {
        ak_map_make(data, dtype, Int32(batch), Int32(channels), Int32(height), Int32(width))
    }

    package var description: String { "\(channels)x\(height)x\(width)" }
}
