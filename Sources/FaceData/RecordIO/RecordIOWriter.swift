/// Writes a RecordIO file and its index. Both get their names when `finish` has put them on disk.
package final class RecordIOWriter {
    private let records: FileWriter
    private let index: FileWriter

    /// - Parameter prefix: the path without its extension: `prefix.rec` and `prefix.idx` are written.
    package init(_ prefix: String) throws(FaceDataError) {
        records = try FileWriter(prefix + ".rec")
        index = try FileWriter(prefix + ".idx")
    }

    /// Appends one record.
    /// - Returns: its byte offset.
    @discardableResult
    package func append(key: UInt64, _ payload: [UInt8]) throws(FaceDataError) -> UInt64 {
        guard payload.count <= RecordIO.longestPart else {
            throw FaceDataError(
                .tooLarge, file: records.path, "record key \(key) has \(payload.count) bytes, the format ends at 2^29 - 1")
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

    package func finish() throws(FaceDataError) {
        try records.finish()
        try index.finish()
    }
}
