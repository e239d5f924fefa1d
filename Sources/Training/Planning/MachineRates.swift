/// What one rank of this machine takes for the parts of a step, measured while as many ranks as share a host work beside
/// it.
package struct MachineRates: Sendable, Equatable {
    /// Images of the measured passes.
    package var batch: Int
    /// Seconds by step of the graph.
    package var forward: [Double]
    package var backward: [Double]
    package var head: HeadRate
    /// Of the optimizer, the norm of its gradients included.
    package var updateSecondsPerParameter: Double
    /// Bytes per second of all ranks of the host together.
    package var memoryBandwidth: Double
    /// Processor seconds that a byte of a message takes from the ranks' computing; 0 where processors are to spare.
    package var messageSecondsPerByte: Double

    package init(
        batch: Int, forward: [Double], backward: [Double], head: HeadRate, updateSecondsPerParameter: Double,
        memoryBandwidth: Double, messageSecondsPerByte: Double = 0
    ) {
        self.batch = batch
        self.forward = forward
        self.backward = backward
        self.head = head
        self.updateSecondsPerParameter = updateSecondsPerParameter
        self.memoryBandwidth = memoryBandwidth
        self.messageSecondsPerByte = messageSecondsPerByte
    }
}

/// The head's time for N rows of the global batch and C classes of a shard: c·N + C·(b + a·N). Products and exponentials
/// grow with N·C, the centres' update with C, what is done for each row with N.
package struct HeadRate: Sendable, Equatable {
    package var perRow: Double
    package var perClass: Double
    package var perElement: Double

    package init(perRow: Double, perClass: Double, perElement: Double) {
        self.perRow = perRow
        self.perClass = perClass
        self.perElement = perElement
    }

    package func seconds(rows: Double, classes: Double) -> Double {
        perRow * rows + classes * (perClass + perElement * rows)
    }

    /// One measured step.
    package struct Sample: Sendable, Equatable {
        package var rows: Int
        package var classes: Int
        package var seconds: Double

        package init(rows: Int, classes: Int, seconds: Double) {
            self.rows = rows
            self.classes = classes
            self.seconds = seconds
        }
    }

    /// The rate that agrees with three samples: rows and classes, fewer classes, and fewer rows. What noise would make
    /// negative counts nothing.
    package init(_ full: Sample, fewerClasses: Sample, fewerRows: Sample) {
        precondition(
            fewerClasses.rows == full.rows && fewerClasses.classes < full.classes && fewerRows.rows < full.rows
                && fewerRows.classes == full.classes, "samples that differ in more than they should")
        let (rows, classes) = (Double(full.rows), Double(full.classes))
        // Per class at these rows: b + a·N.
        let slope = max(0, (full.seconds - fewerClasses.seconds) / (classes - Double(fewerClasses.classes)))
        perRow = max(0, full.seconds - slope * classes) / rows
        let removed = rows - Double(fewerRows.rows)
        perElement = min(
            slope / rows, max(0, (full.seconds - fewerRows.seconds - perRow * removed) / (removed * classes)))
        perClass = slope - perElement * rows
    }
}
