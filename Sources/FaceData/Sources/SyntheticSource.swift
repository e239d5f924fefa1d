package import Tensors

/// The built-in synthetic faces as a source: identities first to first + count, the same number of images each.
package struct SyntheticSource: FaceSource {
    package let faces: SyntheticFaces
    package let identities: Range<Int>
    package let imagesPerIdentity: Int

    package init(_ faces: SyntheticFaces, identities: Range<Int>, imagesPerIdentity: Int) {
        precondition(!identities.isEmpty && imagesPerIdentity > 0, "no synthetic faces asked for")
        self.faces = faces
        self.identities = identities
        self.imagesPerIdentity = imagesPerIdentity
    }

    package var location: String { "synthetic faces" }
    package var count: Int { identities.count * imagesPerIdentity }
    package var classCount: Int { identities.count }
    package func label(of index: Int) -> Int { index / imagesPerIdentity }
    package func key(of index: Int) -> String {
        "identity \(identities.lowerBound + index / imagesPerIdentity), image \(index % imagesPerIdentity)"
    }
    /// The seed is part of the name, unless it is the usual one: two seeds share no identity.
    package func identityName(_ label: Int) -> String {
        "synthetic-\(identities.lowerBound + label)" + (faces.seed == 1 ? "" : "-of-\(faces.seed)")
    }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        do throws(ImageError) {
            return try ImageCodec.encodePNG(attributed(index).0)
        } catch {
            throw FaceDataError(error, file: "\(location), \(key(of: index))")
        }
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage { attributed(index).0 }

    /// The image with all that is known about it.
    package func attributed(_ index: Int) -> (RGBImage, SyntheticFaceAttributes) {
        let identity = identities.lowerBound + index / imagesPerIdentity
        return faces.image(identity: identity, index: index % imagesPerIdentity)
    }
}
