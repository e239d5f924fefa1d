import Artifacts
import Foundation

/// What hosts that will train were measured to send one another (`acuity bench collectives --network`): in place of
/// assumptions about their network.
package struct NetworkMeasurement: Sendable, Equatable, Codable {
    package var hosts: Int
    package var ranksPerHost: Int
    /// Of each rank.
    package var threads: Int
    /// Between hosts.
    package var link: Link
    package var contention: Contention

    package init(hosts: Int, ranksPerHost: Int, threads: Int, link: Link, contention: Contention) {
        self.hosts = hosts
        self.ranksPerHost = ranksPerHost
        self.threads = threads
        self.link = link
        self.contention = contention
    }

    /// - Throws: `ArtifactError`.
    package init(contentsOf path: String) throws {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ArtifactError.missing(path: path, reason: "no file to read a network measurement from")
        }
        do {
            self = try JSONDecoder().decode(Self.self, from: data)
        } catch {
            throw ArtifactError.incompatible(
                path: path,
                reason: "this is no network measurement; 'acuity bench collectives --network FILE' writes one")
        }
        let numbers = [link.latency, link.bandwidth, contention.computing, contention.messages]
        guard numbers.allSatisfy({ $0.isFinite && $0 >= 0 }), link.bandwidth > 0, contention.computing >= 1,
            contention.messages >= 1
        else { throw ArtifactError.damaged(path: path, reason: "figures that cannot be") }
    }
}
