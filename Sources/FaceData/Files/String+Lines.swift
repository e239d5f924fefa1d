extension String {
    /// A line of a text file.
    ///
    /// - Throws: where it is not UTF-8.
    init(line: ArraySlice<UInt8>, _ number: Int, of path: String) throws(FaceDataError) {
        guard let text = String(validating: line, as: UTF8.self) else {
            throw FaceDataError(.malformed, file: path, at: .line(number), "not UTF-8")
        }
        self = text
    }
}

extension StringProtocol {
    /// Without the spaces and tabs at both ends.
    var trimmed: String {
        func isText(_ character: Character) -> Bool { character != " " && character != "\t" }
        guard let first = firstIndex(where: isText), let last = lastIndex(where: isText) else { return "" }
        return String(self[first...last])
    }
}
