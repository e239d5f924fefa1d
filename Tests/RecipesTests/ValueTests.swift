import Recipes
import Testing

/// Every section's types and bounds.
@Suite struct ValueTests {
    private func recipe(_ overrides: String...) throws -> Recipe { try Recipe(files: [], overrides: overrides) }

    /// Numbers with the values at their bounds that are taken, and the nearest that are not.
    private static let bounds: [(key: String, taken: [String], refused: [String])] = [
        ("run.seed", ["0", "9223372036854775807"], ["-1", "9223372036854775808", "1.5"]),
        ("data.synthetic.identities", ["1", "100000000"], ["0", "100000001"]),
        ("data.synthetic.images_per_identity", ["1", "100000"], ["0", "100001"]),
        ("data.synthetic.seed", ["0"], ["-1"]),
        ("data.synthetic.first_identity", ["0", "1000000000"], ["-1", "1000000001"]),
        ("data.synthetic.variation", ["0", "4"], ["-0.1", "4.1", "nan", "inf"]),
        ("data.workers", ["1", "256"], ["0", "257"]),
        ("data.threads", ["1", "256"], ["0", "257"]), ("data.prefetch", ["1", "1000"], ["0", "1001"]),
        ("data.chunk", ["1", "100000"], ["0"]), ("data.open_chunks", ["1", "64"], ["0"]),
        ("data.quarantine_limit", ["0"], ["-1"]),
        ("network.embedding", ["16", "8192"], ["15", "8193"]),
        (
            "network.input", ["[16, 112]", "[112, 96]"],
            ["[0, 112]", "[112, 113]", "[112]", "[1, 2, 3]", "112", "[a, b]"]
        ),
        ("network.width", ["0.125", "8"], ["0.12", "8.1"]),
        ("network.dropout", ["0", "0.95", "null"], ["-0.1", "0.96"]),
        ("head.scale", ["1", "1000"], ["0.9", "1001"]),
        ("head.m", ["0", "2"], ["-0.1", "2.1", "null"]),
        ("head.filter", ["0.01", "1", "null"], ["0", "1.1"]),
        ("head.sampling.rate", ["0.000001", "0.1", "1"], ["0", "-0.1", "1.1", "nan"]),
        ("optimizer.learning_rate", ["0", "1000", "1e-3"], ["-1", "1001", "nan", "fast", "'0.1'"]),
        ("optimizer.reference_batch", ["1"], ["0"]),
        ("optimizer.momentum", ["0", "0.9999"], ["-0.1", "1"]),
        ("optimizer.kind", ["sgd"], ["adam", "adamw", "null"]),
        ("optimizer.weight_decay", ["0", "1"], ["-0.1", "1.1"]),
        ("optimizer.clip_norm", ["0", "1e9", "null"], ["-1", "1e10"]),
        ("optimizer.decay_exempt", ["[]", "[norm, prelu, bias, head]"], ["[weights]", "norm", "[[norm]]"]),
        ("schedule.epochs", ["0.001", "1000000"], ["0", "1000001"]),
        ("schedule.warmup_steps", ["0", "null"], ["-1"]),
        ("schedule.warmup_epochs", ["0", "1000000"], ["-1", "1000001"]),
        (
            "schedule.milestones", ["[]", "[0, 1000000]"],
            ["[-1]", "[1000001]", "[9223372036854775807]", "[2, 1]", "[1.5]"]
        ),
        ("schedule.factor", ["0", "1"], ["-0.1", "1.1"]),
        ("schedule.power", ["0", "10"], ["-0.1", "10.1"]),
        ("schedule.max_steps", ["1", "null"], ["0"]),
        ("schedule.max_time", ["90", "90s", "10m", "1.5h", "2d", "null"], ["0s", "-1m", "soon", "s", "infs", "5w"]),
        ("batch.global", ["1", "1_000_000"], ["0", "1000001", "_", "many", "[1]", "{a: 1}"]),
        ("batch.accumulation", ["1", "64"], ["0", "65", "7"]),
        ("init.learning_rate_factors.head", ["0", "10"], ["-1", "nan", "fast"]),
        ("evaluation.every_steps", ["1", "null"], ["0"]),
        ("evaluation.batch", ["1", "100000"], ["0", "100001"]),
        (
            "evaluation.sets", ["[]", "[{path: a.bin, pair_count: 10}]"],
            ["[{path: a.bin, pair_count: 9}]", "a.bin", "[a.bin]"]
        ),
        ("checkpoint.every_steps", ["1", "null"], ["0"]),
        ("checkpoint.keep", ["1", "100000"], ["0", "100001"]),
        ("checkpoint.keep_every", ["1", "null"], ["0", "-5", "1.5"]),
        ("log.every_steps", ["1"], ["0"]),
        ("compute.threads", ["1", "4096", "null"], ["0", "4097"]),
        ("compute.bucket_mib", ["0.01", "1024"], ["0", "1025"]),
    ]

    @Test(arguments: bounds.indices)
    func numbersAndListsKeepTheirBounds(_ index: Int) {
        let (key, taken, refused) = Self.bounds[index]
        for value in taken {
            #expect(throws: Never.self, "\(key)=\(value)") { try recipe("\(key)=\(value)") }
        }
        for value in refused {
            let error = #expect(throws: RecipeError.self, "\(key)=\(value)") { try recipe("\(key)=\(value)") }
            guard case .wrongValue(let named, _, _, .override) = error else {
                Issue.record("\(key)=\(value): \(String(describing: error))")
                continue
            }
            #expect(named.hasPrefix(key.split(separator: ".").prefix(2).joined(separator: ".")))
        }
    }

    @Test(arguments: [
        "data.flip", "schedule.reference", "evaluation.at_start", "checkpoint.asynchronous",
    ])
    func flagsAreTrueOrFalse(_ key: String) throws {
        #expect(try recipe("\(key)=true") != recipe("\(key)=false"))
        for value in ["yes", "1", "True", "'true'", "[true]", ""] {
            #expect(throws: RecipeError.self, "\(key)=\(value)") { try recipe("\(key)=\(value)") }
        }
    }

    @Test(arguments: [
        "data.channel_order", "head.margin", "head.centres", "optimizer.scaling", "schedule.kind", "init.match",
        "head.sampling.mode", "head.sampling.momentum", "head.storage", "checkpoint.on_error",
    ])
    func choicesNameWhatTheyTake(_ key: String) {
        let error = #expect(throws: RecipeError.self) { try recipe("\(key)=nonsense") }
        #expect("\(error!)".hasPrefix("command line: \(key) = nonsense: expected one of "))
    }

    /// What a shell makes of a variable that nobody has set must not mean the default.
    @Test(arguments: [
        "run.folder", "data.train", "network.name", "batch.global", "optimizer.learning_rate", "data.flip",
        "head.margin",
    ])
    func anEmptyValueIsRefused(_ key: String) {
        #expect(throws: RecipeError.self) { try recipe("\(key)=") }
        #expect(throws: RecipeError.self) { try recipe("\(key)=null") }
    }

    @Test func whatBelongsTogetherIsChecked() throws {
        #expect(throws: RecipeError.self) { try recipe("schedule.kind=steps") }
        #expect(throws: RecipeError.self) { try recipe("evaluation.sets=[{name: a}]") }
        #expect(throws: RecipeError.self) { try recipe("evaluation.sets=[{path: a.bin, down: bilinear}]") }
        #expect(throws: RecipeError.self) { try recipe("evaluation.sets=[{path: a.bin, degrade: 16, up: smooth}]") }
        let sets = try recipe("evaluation.sets=[{path: a.bin, degrade: 16, sides: first, down: bilinear}]").evaluation
            .sets
        #expect(sets[0].sides == .first && sets[0].down == "bilinear" && sets[0].up == nil)
        #expect(throws: RecipeError.self) { try recipe("head.storage_folder=/scratch") }
        #expect(try recipe("head.storage_folder=/scratch", "head.storage=file").head.storageFolder == "/scratch")
        let two = "evaluation.sets=[{path: a.bin}, {path: b.bin, name: low}]"
        #expect(try recipe(two, "checkpoint.keep_best=low").checkpoint.keepBest == "low")
        #expect(throws: RecipeError.self) { try recipe(two, "checkpoint.keep_best=b") }
        #expect(throws: RecipeError.self) { try recipe("checkpoint.keep_best=lfw") }
        #expect(throws: RecipeError.self) { try recipe("run=5") }
        #expect(throws: RecipeError.self) { try recipe("optimizer.beta1=0.8") }
        #expect(throws: RecipeError.self) { try recipe("optimizer={kind: adam, momentum: 0.9}", "init.freeze=[head]") }
        #expect(try recipe("optimizer={kind: adam, beta1: 0.8}", "init.freeze=[head]").optimizer.beta1 == 0.8)
        #expect(throws: RecipeError.self) { try recipe("objectives.sdd_fiqa={beta: 0.1}") }
        #expect(throws: RecipeError.self) {
            try recipe("objectives={sdd_fiqa: {qualities: q.tsv}, cr_fiqa: {beta: 0.5}}")
        }
        #expect(throws: RecipeError.self) { try recipe("init.freeze=head") }
        #expect(try recipe("batch.global=6", "batch.accumulation=3").batch.accumulation == 3)
    }

    @Test func valuesMeanWhatTheySay() throws {
        #expect(try recipe("schedule.max_time=1.5h").schedule.maxTime == 5400)
        #expect(try recipe("schedule.max_time=90").schedule.maxTime == 90)
        #expect(try recipe("batch.global=1_024").batch.global == 1024)
        #expect(try recipe("optimizer.clip_norm=null").optimizer.clipNorm == 0)
        #expect(try recipe().optimizer.clipNorm == 5)
        #expect(try recipe("optimizer.scaling=none").optimizer.scaling == .none)
        #expect(try recipe("data.train=none").data.train == "none")
        #expect(try recipe("data.train='null'").data.train == "null")
        #expect(try recipe("evaluation.sets=[{path: faces/lfw.bin}]").evaluation.sets[0].name == "lfw")
    }
}
