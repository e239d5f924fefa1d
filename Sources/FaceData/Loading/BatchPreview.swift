package import Tensors

/// Chosen records as the network would get them: each is a batch of its own, made by the loader.
package struct BatchPreview: Sendable {
    /// (views·N, 3, height, width), all first views, then all second views, ….
    package let images: Tensor
    /// N classes.
    package let labels: [Int]
    /// views·N: the records that the images are of.
    package let records: [Int]

    /// - Parameters:
    ///   - wanted: records with the epochs that they are loaded for; a damaged one is replaced as in training.
    ///   - options: as those of the run.
    /// - Throws: `FaceDataError` when the disk fails or no intact record is found.
    package init(
        of source: any FaceSource, _ wanted: [(record: Int, epoch: Int)], options: BatchLoader.Options
    ) throws(FaceDataError) {
        precondition(!wanted.isEmpty, "a preview of nothing")
        var options = options
        options.threads = 1
        options.prefetch = 1
        let views = options.views.count
        let (height, width) = (options.preprocessing.height, options.preprocessing.width)
        images = Tensor([views * wanted.count, 3, height, width])
        var labels: [Int] = []
        var records = [Int](repeating: 0, count: views * wanted.count)
        let sampler = try Self.sampler(source, seed: options.seed)
        let values = options.preprocessing.valueCount
        for (row, item) in wanted.enumerated() {
            let loader = BatchLoader(
                source: source, sampler: sampler, position: item.epoch * source.count + item.record, options: options)
            let batch = try loader.next()
            labels.append(batch.labels[0])
            for view in 0..<views {
                let place = view * wanted.count + row
                records[place] = batch.records[view]
                let image = UnsafeMutableBufferPointer(rebasing: images.floats[place * values..<(place + 1) * values])
                _ = image.update(fromContentsOf: batch.images.floats[view * values..<(view + 1) * values])
            }
        }
        self.labels = labels
        self.records = records
    }

    /// One record to a batch, in the source's order, so that a position is an epoch and a record.
    private static func sampler(_ source: any FaceSource, seed: UInt64) throws(FaceDataError) -> EpochSampler {
        do throws(SamplerError) {
            return try EpochSampler(recordCount: source.count, globalBatch: 1, seed: seed, shuffles: false)
        } catch {
            throw FaceDataError(.malformed, file: source.location, error.description)
        }
    }
}
