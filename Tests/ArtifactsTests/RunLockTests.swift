import Artifacts
import Foundation
import Testing

@Suite struct RunLockTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private var path: String { folder.file(RunLock.fileName) }
    private let here = ProcessIdentity(host: "a", pid: 7, start: "boot/1")
    private let other = ProcessIdentity(host: "a", pid: 8, start: "boot/2")
    private let remote = ProcessIdentity(host: "b", pid: 7, start: "boot/1")

    private func acquire(
        _ identity: ProcessIdentity, force: Bool = false, running: Bool = true
    ) throws -> RunLock {
        try RunLock.acquire(runFolder: folder.path, force: force, identity: identity, isRunning: { _ in running })
    }

    @Test func twoJobsDoNotShareARun() throws {
        let lock = try acquire(here)
        let error = try #require(try artifactError { _ = try acquire(other) })
        guard case .locked(path, let reason) = error else { throw error }
        #expect(reason.contains("process 7 on 'a'"))
        try lock.release()
        try acquire(other).release()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func theLockOfAnEndedProcessIsTakenOver() throws {
        let stale = try acquire(here)
        let lock = try acquire(other, running: false)
        try stale.release()
        #expect(FileManager.default.fileExists(atPath: path))
        try lock.release()
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }

    @Test func theLockOfAnotherHostTakesForce() throws {
        _ = try acquire(remote)
        let error = try #require(try artifactError { _ = try acquire(here, running: false) })
        #expect("\(error)".contains("on 'b'"))
        try acquire(here, force: true).release()
    }

    @Test(arguments: ["", "{}", "{\"host\":\"a\",\"pid\":-1,\"start\":\"\"}", "\u{0}", "{\"host\":\"a\",\"pid\":1}"])
    func aLockThatSaysNothingIsKept(_ text: String) throws {
        _ = try folder.write(RunLock.fileName, Array(text.utf8))
        let error = try #require(try artifactError { _ = try acquire(here, running: false) })
        #expect("\(error)".contains("does not say who"))
        try acquire(here, force: true).release()
    }

    @Test func processesAreKnownByNumberAndStart() throws {
        let own = ProcessIdentity.current
        #expect(own.isRunning && own.pid == Int(getpid()) && own.start.contains("/"))
        #expect(!ProcessIdentity(host: own.host, pid: own.pid, start: "another boot/1").isRunning)
        let child = Process()
        child.executableURL = URL(fileURLWithPath: "/bin/sh")
        child.arguments = ["-c", "exit 0"]
        try child.run()
        let pid = Int(child.processIdentifier)
        child.waitUntilExit()
        #expect(!ProcessIdentity(host: own.host, pid: pid, start: own.start).isRunning)
        #expect(!ProcessIdentity(host: own.host, pid: -1, start: "").isRunning)
        #expect(!ProcessIdentity(host: own.host, pid: .max, start: "").isRunning)
        let lock = try RunLock.acquire(runFolder: folder.file("new/run"))
        #expect(throws: ArtifactError.self) { try RunLock.acquire(runFolder: folder.file("new/run")) }
        try lock.release()
    }

    /// A process that has ended, but that its parent has not collected, holds nothing.
    @Test func aProcessThatNobodyCollectedDoesNotRun() throws {
        var pid: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
        defer { free(arguments[0]) }
        try #require(posix_spawn(&pid, "/bin/true", nil, nil, &arguments, nil) == 0)
        let identity = ProcessIdentity(host: ProcessIdentity.current.host, pid: Int(pid), start: "")
        for _ in 0..<500 where identity.isRunning { usleep(10_000) }
        #expect(kill(pid, 0) == 0, "collected already")
        #expect(!identity.isRunning)
        var status: Int32 = 0
        #expect(waitpid(pid, &status, 0) == pid)
    }

    /// Many would take over one stale lock: one gets it.
    @Test func aStaleLockIsTakenOverByOne() throws {
        for round in 0..<50 {
            _ = try acquire(ProcessIdentity(host: "a", pid: 1, start: "gone"), force: true)
            let folder = folder.path
            let group = RankGroup.run(4) { ranks in
                let identity = ProcessIdentity(host: "a", pid: 100 + ranks.rank, start: "now")
                _ = try ranks.confirm(true)
                let got = Result {
                    try RunLock.acquire(
                        runFolder: folder, identity: identity, isRunning: { $0.start == "now" })
                }
                _ = try ranks.confirm(true)
                if case .success = got { return true }
                return false
            }
            #expect(try group.map { try $0.get() }.filter { $0 }.count == 1, "round \(round)")
            #expect(FileManager.default.fileExists(atPath: path))
        }
    }
}
