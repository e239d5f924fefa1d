import Foundation

/// Why the system refused, in its own words: Foundation hides the number of the error behind a vaguer text.
package func systemReason(_ error: any Error) -> String {
    var cause: NSError? = error as NSError
    while let current = cause {
        if current.domain == NSPOSIXErrorDomain {
            return String(cString: strerror(Int32(truncatingIfNeeded: current.code)))
        }
        // What Foundation gives no number of the system's for.
        if current.domain == NSCocoaErrorDomain, current.code == CocoaError.fileWriteUnknown.rawValue,
            current.userInfo[NSUnderlyingErrorKey] == nil
        {
            return "it cannot be written there"
        }
        cause = current.userInfo[NSUnderlyingErrorKey] as? NSError
    }
    return error.localizedDescription
}
