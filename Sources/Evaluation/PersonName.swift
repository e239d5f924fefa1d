/// Names of people as they are compared between data sets.
package enum PersonName {
    /// The letters of a name, lower case, without diacritics: `José_María`, `jose maria` and `JoseMaria` are one.
    ///
    /// - Returns: nil for what is a number rather than a name: anything with a digit, or with fewer than two letters.
    package static func key(_ name: String) -> String? {
        var key = ""
        for scalar in name.unicodeScalars {
            let properties = scalar.properties
            if properties.generalCategory == .decimalNumber { return nil }
            // Marks that stand for themselves, as in decomposed text.
            if !properties.isAlphabetic || properties.generalCategory == .nonspacingMark { continue }
            for lower in properties.lowercaseMapping.unicodeScalars { key += base(lower) }
        }
        return key.unicodeScalars.count < 2 ? nil : key
    }

    /// The letter that a Latin letter is made of (LATIN SMALL LETTER E WITH ACUTE); others stay as they are.
    private static func base(_ scalar: Unicode.Scalar) -> String {
        if scalar.isASCII { return String(Character(scalar)) }
        if scalar.properties.generalCategory == .nonspacingMark { return "" }
        let prefix = "LATIN SMALL LETTER "
        if scalar == "ß" { return "ss" }
        guard let name = scalar.properties.name, name.hasPrefix(prefix) else { return String(Character(scalar)) }
        let letters = name.dropFirst(prefix.count).prefix { $0 != " " }
        guard letters.count <= 2, name.dropFirst(prefix.count + letters.count).hasPrefix(" WITH") || letters.count == 2
        else { return String(Character(scalar)) }
        return letters.lowercased()
    }
}
