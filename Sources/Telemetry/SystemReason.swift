import Foundation

/// Why the system refused, in its own words: Foundation hides the number of the error behind a vaguer text.
package func systemReason(_ error: any Error) -> String {
    var cause: NSError? = error as NSError
    while let current = cause {
        if current.domain == NSPOSIXErrorDomain {
            return String(cString: strerror(Int32(truncatingIfNeeded: current.code)))
        }
        cause = current.userInfo[NSUnderlyingErrorKey] as? NSError
    }
    return error.localizedDescription
}
