import Collectives
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The processor time of messages between hosts: what the system's TCP takes for a byte that a process sends or
/// receives, measured by sending to oneself.
enum MessageCost {
    private static let byteCount = 64 << 20
    private static let pieceBytes = 128 << 10

    /// Processor seconds of a byte sent, or received; nil where no socket can be had.
    static func secondsPerByte() -> Double? {
        guard let (sender, receiver) = connection() else { return nil }
        defer {
            close(sender)
            close(receiver)
        }
        let start = processorSeconds()
        let thread = SystemThread(name: "messages") {
            let piece = [UInt8](repeating: 1, count: pieceBytes)
            var left = byteCount
            while left > 0 {
                let sent = send(sender, piece, min(left, pieceBytes), Int32(MSG_NOSIGNAL))
                if sent <= 0 { break }
                left -= sent
            }
            shutdown(sender, Int32(SHUT_WR))
        }
        var piece = [UInt8](repeating: 0, count: pieceBytes)
        var total = 0
        while true {
            let count = recv(receiver, &piece, pieceBytes, 0)
            if count <= 0 { break }
            total += count
        }
        thread.join()
        guard total == byteCount else { return nil }
        return (processorSeconds() - start) / Double(2 * byteCount)
    }

    /// Two ends of a TCP connection of this process with itself.
    private static func connection() -> (Int32, Int32)? {
        let stream = Int32(SOCK_STREAM.rawValue)
        let listener = socket(AF_INET, stream, 0)
        guard listener >= 0 else { return nil }
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        func named(_ call: (UnsafeMutablePointer<sockaddr>) -> Int32) -> Bool {
            withUnsafeMutablePointer(to: &address) { address in
                address.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0) == 0 }
            }
        }
        guard named({ bind(listener, $0, length) }), listen(listener, 1) == 0,
            named({ getsockname(listener, $0, &length) })
        else { return nil }
        let sender = socket(AF_INET, stream, 0)
        guard sender >= 0 else { return nil }
        guard named({ connect(sender, $0, length) }) else {
            close(sender)
            return nil
        }
        let receiver = accept(listener, nil, nil)
        guard receiver >= 0 else {
            close(sender)
            return nil
        }
        return (sender, receiver)
    }

    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
