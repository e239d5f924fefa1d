import Recipes
import TestSupport
import Testing

/// Recipes that nobody has written on purpose: an error that says where, or a recipe that reads back.
@Suite(.serialized) struct RecipeFuzzTests {
    private static let words = [
        "&a ", "*a", "<<: *a", "!!python/object:os.system ", "!!binary ", "- ", "? ", ": ", "|", ">", "{", "}", "[",
        "]", "\n  ",
        "\t", "~", "null", "'", "\"", "#", "---\n", "...\n", "1e999", "-0", "0x10", "99999999999999999999",
        "stability:",
        "head: ", "\u{FEFF}", "\u{2028}",
    ]

    @Test func yaml() {
        let seeds = [
            "run: {folder: a, seed: 3}\nnetwork:\n  name: mobilefacenet\n  embedding: 64\nbatch: {global: 4}\n",
            "head:\n  margin: adaface\n  m: 0.4\noptimizer:\n  learning_rate: 0.1\n  decay_exempt: [norm, bias]\n",
            "data:\n  train:\n    - {path: a.rec, weight: 0.5}\n    - b.rec\nevaluation:\n  sets:\n    - path: lfw.bin\n",
            "stability: {policy: rollback, spike_factor: 3}\ncompute: {threads: 2, collective_timeout: 60}\n",
        ].map { Array($0.utf8) }
        Fuzzer.run(seed: 1, seeds, words: Self.words) { bytes in
            var tree = ConfigTree()
            guard (try? tree.merge(yaml: String(decoding: bytes, as: UTF8.self), name: "fuzz.yaml")) != nil,
                let recipe = try? Recipe(tree)
            else { return }
            #expect(!recipe.yaml.isEmpty)
        }
    }

    @Test func overrides() {
        let seeds = ["run.folder=x", "head={margin: cosface, m: 0.3}", "data.train=[a, b]", "batch.global=4"]
            .map { Array($0.utf8) }
        Fuzzer.run(seed: 2, seeds, words: Self.words + ["=", ".", "run.", "=="], seconds: 0.5) { bytes in
            _ = try? Recipe(files: [], overrides: [String(decoding: bytes, as: UTF8.self)])
        }
    }
}
