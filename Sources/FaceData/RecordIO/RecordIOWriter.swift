/// Writes a RecordIO file and its index. Both get their names when `finish` has put them on disk.
package final class RecordIOWriter {
    private let records: FileWriter
    private let index: FileWriter

    /// - Parameter prefix: the path without its extension: `prefix.rec` and `prefix.idx` are written.
    package init(_ prefix: String) throws(FaceDataError) {
        records = try FileWriter(prefix + ".rec")
        index = try FileWriter(prefix + ".idx")
    }

    /// Goes on with unfinished files, which stay so where this process ends before it has given them their names.
    ///
    /// - Parameters:
    ///   - kept: bytes of the record file that stay; the rest is cut off.
    ///   - keptIndex: the same of the index.
    init(_ prefix: String, keeping kept: UInt64, index keptIndex: UInt64) throws(FaceDataError) {
        records = try FileWriter(prefix + ".rec", keeping: kept)
        index = try FileWriter(prefix + ".idx", keeping: keptIndex)
    }

    /// Bytes of both files so far.
    var sizes: (records: UInt64, index: UInt64) { (records.position, index.position) }

    /// Appends one record.
    /// - Returns: its byte offset.
    @discardableResult
    package func append(key: UInt64, _ payload: [UInt8]) throws(FaceDataError) -> UInt64 {
        guard payload.count <= RecordIO.longestPart else {
            throw FaceDataError(
                .tooLarge, file: records.path,
                "record key \(key) has \(payload.count) bytes, the format ends at 2^29 - 1")
        }
        let offset = records.position
        try records.append(RecordIO.frame(payload))
        try index.append("\(key)\t\(offset)\n")
        return offset
    }

    @discardableResult
    package func append(key: UInt64, _ record: ImageRecord) throws(FaceDataError) -> UInt64 {
        try append(key: key, record.payload)
    }

    /// Puts everything on disk.
    func sync() throws(FaceDataError) {
        try records.sync()
        try index.sync()
    }

    package func finish() throws(FaceDataError) {
        try records.finish()
        try index.finish()
    }
}
