package import Collectives
import FaceData
import Foundation
import Synchronization
package import Tensors

/// Images of a job that cannot be read, where they are to be left out and counted.
package final class SkippedImages: Sendable {
    private let isAllowed: Bool
    private let reasons = Mutex<[Int: String]>([:])

    /// - Parameter isAllowed: otherwise the first such image is an error.
    package init(isAllowed: Bool) { self.isAllowed = isAllowed }

    /// What `read` gives, or a black image in place of one that cannot be decoded or is not there.
    ///
    /// - Throws: what `read` throws, where nothing may be left out, or the system refuses to read.
    package func image(_ index: Int, _ read: (Int) throws -> RGBImage) throws -> RGBImage {
        do {
            return try read(index)
        } catch let error as FaceDataError where isAllowed && error.kind != .cannotRead {
            reasons.withLock { $0[index] = "\(error)" }
            return RGBImage(width: 112, height: 112)
        }
    }

    /// The images that any rank has left out, with the reasons, by index.
    package func gathered(_ communicator: any Communicator) throws -> [Int: String] {
        guard isAllowed else { return [:] }
        let own = reasons.withLock { $0 }
        let parts = try communicator.gather(coding: own, "images left out")
        let all = parts?.reduce(into: [Int: String]()) { all, part in all.merge(part) { first, _ in first } }
        let bytes = try communicator.broadcast(
            Array(try JSONEncoder().encode(all ?? [:])), root: 0, "images left out")
        return try JSONDecoder().decode([Int: String].self, from: Data(bytes))
    }
}
