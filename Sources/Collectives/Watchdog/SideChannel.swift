#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Datagrams (UDP over IPv4) between the watchdogs of a job, beside MPI: MPI is what may be stuck.
///
/// Rank 0 listens at a port that the system chooses; the others learn its addresses over MPI when the job starts, and
/// send to all of them, since not every interface leads to every host. Rank 0 answers to where a datagram came from. A
/// random number that only this job's ranks know goes with every datagram; others are dropped. No file system has to be
/// shared, and no port has to be opened but between the hosts of the job, which MPI needs, too.
final class SideChannel: @unchecked Sendable {
    let token: UInt64
    let rootHost: String
    private let descriptor: Int32
    private let rank: Int
    /// Where rank 0 listens; empty on rank 0.
    private let targets: [sockaddr_in]
    /// On rank 0, where each rank's last datagram came from; port 0 before the first.
    private var origins: [sockaddr_in]
    private let received = UnsafeMutableRawBufferPointer.allocate(byteCount: Beacon.byteCount + 1, alignment: 16)
    private let sent = UnsafeMutableRawBufferPointer.allocate(byteCount: Beacon.byteCount, alignment: 16)

    private static let mostAddresses = 8

    private init(
        descriptor: Int32, token: UInt64, rank: Int, ranks: Int, rootHost: String, targets: [sockaddr_in]
    ) {
        self.descriptor = descriptor
        self.token = token
        self.rank = rank
        self.rootHost = rootHost
        self.targets = targets
        origins = Array(repeating: sockaddr_in(), count: rank == 0 ? ranks : 0)
    }

    deinit {
        close(descriptor)
        received.deallocate()
        sent.deallocate()
    }

    // MARK: - Opening

    /// Collective. nil on every rank where rank 0 cannot listen; nil on a rank that has no socket.
    static func open(over communicator: any Communicator) throws -> SideChannel? {
        let isRoot = communicator.rank == 0
        let descriptor = makeSocket()
        let secret = UInt64.random(in: 1 ... .max)
        var offer: [UInt8] = []
        if isRoot, descriptor >= 0, let port = bind(descriptor, onlyHere: communicator.topology.hosts == 1) {
            let addresses = communicator.topology.hosts == 1 ? [loopback] : ownAddresses()
            offer = encode(secret, port, addresses, communicator.topology.hostName)
        }
        let bytes = try communicator.broadcast(offer, root: 0, "watchdog")
        guard descriptor >= 0 else { return nil }
        guard let (token, targets, host) = decode(bytes) else {
            close(descriptor)
            return nil
        }
        return SideChannel(
            descriptor: descriptor, token: token, rank: communicator.rank, ranks: communicator.size, rootHost: host,
            targets: isRoot ? [] : targets)
    }

    private static func makeSocket() -> Int32 {
        #if canImport(Glibc)
            let kind = Int32(SOCK_DGRAM.rawValue)
        #else
            let kind = Int32(SOCK_DGRAM)
        #endif
        let descriptor = socket(AF_INET, kind, 0)
        guard descriptor >= 0 else { return -1 }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return descriptor
    }

    /// 127.0.0.1, in network order.
    private static let loopback = UInt32(0x7F00_0001).bigEndian

    /// Binds to a port of the system's choice and returns it, in network order.
    private static func bind(_ descriptor: Int32, onlyHere: Bool) -> UInt16? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr = in_addr(s_addr: onlyHere ? loopback : 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                systemBind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0
            }
        }
        return bound && address.sin_port != 0 ? address.sin_port : nil
    }

    /// The IPv4 addresses of this host's interfaces that are up, but for its own loop, in network order.
    private static func ownAddresses() -> [UInt32] {
        // IFF_UP and IFF_LOOPBACK of <net/if.h>.
        let (up, loop) = (UInt32(0x1), UInt32(0x8))
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var addresses: [UInt32] = []
        var loops: [UInt32] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) else {
                continue
            }
            let flags = UInt32(entry.pointee.ifa_flags)
            guard flags & up != 0 else { continue }
            let number = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
            if flags & loop != 0 { loops.append(number) } else { addresses.append(number) }
        }
        // "Hosts" that are namespaces of one machine may have nothing but the loop.
        return Array((addresses.isEmpty ? loops : addresses).prefix(mostAddresses))
    }

    private static func encode(_ token: UInt64, _ port: UInt16, _ addresses: [UInt32], _ host: String) -> [UInt8] {
        var bytes: [UInt8] = []
        withUnsafeBytes(of: token) { bytes += $0 }
        withUnsafeBytes(of: port) { bytes += $0 }
        bytes.append(UInt8(addresses.count))
        for address in addresses { withUnsafeBytes(of: address) { bytes += $0 } }
        return bytes + Array(host.utf8)
    }

    private static func decode(_ bytes: [UInt8]) -> (token: UInt64, targets: [sockaddr_in], host: String)? {
        bytes.withUnsafeBytes { raw in
            guard raw.count >= 11, raw.count >= 11 + 4 * Int(raw[10]) else { return nil }
            let count = Int(raw[10])
            let targets = (0..<count).map { index in
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = raw.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
                address.sin_addr = in_addr(
                    s_addr: raw.loadUnaligned(fromByteOffset: 11 + 4 * index, as: UInt32.self))
                return address
            }
            return (
                raw.loadUnaligned(fromByteOffset: 0, as: UInt64.self), targets,
                String(decoding: raw[(11 + 4 * count)...], as: UTF8.self)
            )
        }
    }

    // MARK: - Sending and receiving

    /// Sends what `fill` writes to rank 0, over each of its addresses. What does not go out is lost, as any datagram may
    /// be.
    func sendToRoot(_ fill: (UnsafeMutableRawBufferPointer) -> Void) {
        fill(sent)
        for index in targets.indices { send(to: targets[index]) }
    }

    /// On rank 0: answers a rank that has been heard.
    func answer(_ kind: Beacon.Kind, rank target: Int) {
        guard origins[target].sin_port != 0 else { return }
        Beacon.writeHead(kind, rank: rank, token: token, into: sent)
        send(to: origins[target])
    }

    private func send(to address: sockaddr_in) {
        var address = address
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                sendto(descriptor, sent.baseAddress, sent.count, 0, generic, length)
            }
        }
    }

    /// Sleeps until a datagram is there or the time is over.
    func wait(milliseconds: Int32) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, milliseconds)
    }

    /// Hands over the datagrams that have arrived. On rank 0 it remembers where each came from.
    func receive(_ body: (Beacon.Head, UnsafeRawBufferPointer) -> Void) {
        var origin = sockaddr_in()
        // Bounded: a flood of foreign datagrams must not keep the watchdog from its work.
        for _ in 0..<4096 {
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let count = withUnsafeMutablePointer(to: &origin) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                    recvfrom(descriptor, received.baseAddress, received.count, 0, generic, &length)
                }
            }
            guard count >= 0 else { return }
            let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(received)[..<count])
            guard let head = Beacon.head(bytes, token: token, ranks: max(origins.count, 1)) else { continue }
            if rank == 0 {
                guard head.kind == .position, head.rank > 0 else { continue }
                origins[head.rank] = origin
            }
            body(head, bytes)
        }
    }
}

/// The system's function, where a method has its name.
private func systemBind(_ descriptor: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> Int32 {
    bind(descriptor, address, length)
}
