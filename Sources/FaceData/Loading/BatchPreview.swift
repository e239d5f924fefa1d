package import Tensors

/// Chosen records as the network would get them, made by the code that makes a run's batches.
package struct BatchPreview: Sendable {
    /// (views·N, 3, height, width), all first views, then all second views, ….
    package let images: Tensor
    /// N classes.
    package let labels: [Int]
    /// views·N: the records that the images are of.
    package let records: [Int]

    /// - Parameters:
    ///   - wanted: records with the epochs that they are loaded for; a damaged one is replaced as in training.
    ///   - options: preprocessing, seed, flips and views; the others are not used.
    /// - Throws: `FaceDataError` when the disk fails or no intact record is found.
    package init(
        of source: any FaceSource, _ wanted: [(record: Int, epoch: Int)], options: BatchLoader.Options
    ) throws(FaceDataError) {
        precondition(!wanted.isEmpty && !options.views.isEmpty, "a preview of nothing")
        let loader: RowLoader
        do throws(SamplerError) {
            let sampler = try EpochSampler(recordCount: source.count, globalBatch: 1, seed: options.seed)
            loader = RowLoader(source: source, sampler: sampler, options: options)
        } catch {
            throw FaceDataError(.malformed, file: source.location, error.description)
        }
        let values = options.preprocessing.valueCount
        let (height, width) = (options.preprocessing.height, options.preprocessing.width)
        let images = Tensor([options.views.count * wanted.count, 3, height, width])
        var labels: [Int] = []
        var records = [Int](repeating: 0, count: options.views.count * wanted.count)
        for (row, item) in wanted.enumerated() {
            let loaded = try loader.load(record: item.record, epoch: item.epoch) { view in
                let first = (view * wanted.count + row) * values
                return UnsafeMutableBufferPointer(rebasing: images.floats[first..<first + values])
            }
            labels.append(loaded.label)
            for (view, record) in loaded.records.enumerated() { records[view * wanted.count + row] = record }
        }
        self.images = images
        self.labels = labels
        self.records = records
    }
}
