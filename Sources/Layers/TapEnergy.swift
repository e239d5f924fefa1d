package import CKernels
package import Tensors

/// The spatial energy of feature maps, by which maps of different views are compared (Zagoruyko and Komodakis, ICLR 2017):
/// a[i] = (1/C) Σ_c x²[c, i] at every position i.
package enum TapEnergy {
    /// - Parameters:
    ///   - map: n images.
    ///   - energies: (n x h·w), row-major.
    package static func compute(_ pool: ThreadPool, _ map: ak_map, into energies: UnsafeMutablePointer<Float>) {
        let positions = Int(map.h * map.w)
        let factor = 1 / Float(map.c)
        pool.forEachRange(Int(map.n)) { images in
            for image in images {
                let target = energies + image * positions
                for position in 0..<positions {
                    var sum = SIMD16<Float>.zero
                    for block in 0..<blocks(map) {
                        let x = load(map, at: image * map.image + block * map.block + 16 * position)
                        sum += x * x
                    }
                    target[position] = sum.sum() * factor
                }
            }
        }
    }

    /// The maps' gradient from that of their energies: 2x/C times it, in every channel.
    package static func differentiate(
        _ pool: ThreadPool, _ map: ak_map, _ energyGradient: UnsafePointer<Float>, into gradient: ak_map
    ) {
        precondition(
            gradient.n == map.n && gradient.c == map.c && gradient.h == map.h && gradient.w == map.w
                && gradient.dtype == map.dtype, "a gradient of another shape than its map")
        let positions = Int(map.h * map.w)
        let factor = 2 / Float(map.c)
        pool.forEachRange(Int(map.n)) { images in
            for image in images {
                for position in 0..<positions {
                    let scale = SIMD16(repeating: energyGradient[image * positions + position] * factor)
                    for block in 0..<blocks(map) {
                        let place = image * map.image + block * map.block + 16 * position
                        store(load(map, at: place) * scale, gradient, at: place)
                    }
                }
            }
        }
    }

    private static func blocks(_ map: ak_map) -> Int { (Int(map.c) + 15) / 16 }

    /// Sixteen channels of one position; those beyond the last are zero.
    @inline(__always)
    private static func load(_ map: ak_map, at place: Int) -> SIMD16<Float> {
        guard map.dtype == AK_BF16 else {
            return UnsafeRawPointer(map.data).load(fromByteOffset: 4 * place, as: SIMD16<Float>.self)
        }
        let halves = UnsafeRawPointer(map.data).load(fromByteOffset: 2 * place, as: SIMD16<UInt16>.self)
        let bits = SIMD16<UInt32>(truncatingIfNeeded: halves) &<< 16
        return unsafeBitCast(bits, to: SIMD16<Float>.self)
    }

    /// bf16 is rounded to nearest, ties to even.
    @inline(__always)
    private static func store(_ values: SIMD16<Float>, _ map: ak_map, at place: Int) {
        guard map.dtype == AK_BF16 else {
            map.data.storeBytes(of: values, toByteOffset: 4 * place, as: SIMD16<Float>.self)
            return
        }
        let bits = unsafeBitCast(values, to: SIMD16<UInt32>.self)
        let rounded = (bits &+ 0x7FFF &+ ((bits &>> 16) & 1)) &>> 16
        map.data.storeBytes(of: SIMD16<UInt16>(truncatingIfNeeded: rounded), toByteOffset: 2 * place, as: SIMD16<UInt16>.self)
    }
}
