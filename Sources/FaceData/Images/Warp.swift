package import Tensors

extension RGBImage {
    /// What a similarity makes of the image: bilinear between four pixels, black beyond the border. Nothing is smoothed
    /// when shrinking, as in OpenCV's warpAffine, whose weights are rounded to 1/32 of a pixel, which these are not.
    /// - Parameters:
    ///   - transform: from this image's coordinates to the result's.
    ///   - width: of the result.
    package func warped(by transform: Similarity, width: Int, height: Int) -> RGBImage {
        precondition(width > 0 && height > 0, "a size of \(width) x \(height)")
        let back = transform.inverse
        let (ownWidth, ownHeight) = (self.width, self.height)
        let line = 3 * ownWidth
        return RGBImage(width: width, height: height, from: self) { input, output in
            // Bounds that keep every index a small number, whatever the transform.
            let (farX, farY) = (Double(ownWidth), Double(ownHeight))
            for row in 0..<height {
                var target = output + 3 * row * width
                for column in 0..<width {
                    let x = back.a * Double(column) - back.b * Double(row) + back.shift.x
                    let y = back.b * Double(column) + back.a * Double(row) + back.shift.y
                    if x > -1, y > -1, x < farX, y < farY {
                        // Both are above -1, so that this rounds down.
                        let (left, top) = (Int(x + 1) - 1, Int(y + 1) - 1)
                        let (fx, fy) = (Float(x - Double(left)), Float(y - Double(top)))
                        let corner = input + (top * line + 3 * left)
                        let isInside = left >= 0 && top >= 0 && left + 1 < ownWidth && top + 1 < ownHeight
                        for channel in 0..<3 {
                            var (a, b, c, d): (Float, Float, Float, Float)
                            if isInside {
                                (a, b) = (Float(corner[channel]), Float(corner[channel + 3]))
                                (c, d) = (Float(corner[line + channel]), Float(corner[line + channel + 3]))
                            } else {
                                let (isLeft, isRight) = (left >= 0, left + 1 < ownWidth)
                                let (isTop, isBottom) = (top >= 0, top + 1 < ownHeight)
                                a = isTop && isLeft ? Float(corner[channel]) : 0
                                b = isTop && isRight ? Float(corner[channel + 3]) : 0
                                c = isBottom && isLeft ? Float(corner[line + channel]) : 0
                                d = isBottom && isRight ? Float(corner[line + channel + 3]) : 0
                            }
                            let upper = a + fx * (b - a)
                            let lower = c + fx * (d - c)
                            target[channel] = Rounding.byte(upper + fy * (lower - upper))
                        }
                    } else {
                        for channel in 0..<3 { target[channel] = 0 }
                    }
                    target += 3
                }
            }
        }
    }

    /// Turned around its centre, at the same size; bilinear, black where nothing comes from.
    /// - Parameter degrees: counter-clockwise as seen.
    package func rotated(degrees: Double) -> RGBImage {
        let centre = ImagePoint(Double(width - 1) / 2, Double(height - 1) / 2)
        return warped(by: Similarity(degrees: degrees, around: centre), width: width, height: height)
    }
}
