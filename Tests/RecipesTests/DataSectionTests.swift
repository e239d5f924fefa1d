import Recipes
import Testing

/// Sources, their order, and what must not be combined.
@Suite struct DataSectionTests {
    private func read(_ yaml: String) throws -> Recipe {
        var tree = ConfigTree()
        try tree.merge(yaml: yaml, name: "recipe.yaml")
        return try Recipe(tree)
    }

    private func problem(_ yaml: String) -> String? {
        do {
            _ = try read(yaml)
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test func oneSourceOrSeveral() throws {
        let one = try read("data: {train: faces.rec}").data
        #expect(one.train == "faces.rec" && one.sources.isEmpty)
        let several = try read(
            """
            data:
              train:
                - a.rec
                - {path: photos, weight: 2, labels: shared, name: mine}
                - path: lists/b.tsv
                  folder: images
                  weight: 0.25
            """
        ).data
        #expect(several.sources.map(\.path) == ["a.rec", "photos", "lists/b.tsv"])
        #expect(several.sources.map(\.weight) == [1, 2, 0.25])
        #expect(several.sources.map(\.labels) == [.separate, .shared, .separate])
        #expect(several.sources[1].name == "mine" && several.sources[2].folder == "images")
    }

    @Test func anOverrideReplacesAList() throws {
        var tree = ConfigTree()
        try tree.merge(yaml: "data: {train: [a.rec, b.rec]}", name: "recipe.yaml")
        try tree.merge(override: "data.train=c.rec")
        let data = try Recipe(tree).data
        #expect(data.train == "c.rec" && data.sources.isEmpty)
    }

    @Test func theOlderNameOfThreads() throws {
        #expect(try read("data: {workers: 3}").data.threads == 3)
        #expect(try read("data: {workers: 3, threads: 5}").data.threads == 5)
        #expect(try read("data: {threads: 2}").yaml.contains("workers") == false)
    }

    @Test(arguments: [
        ("data: {train: []}", "at least one source"),
        ("data: {train: [{weight: 2}]}", "missing key 'data.train[0].path'"),
        ("data: {train: [a, [b]]}", "a list of sections"),
        ("data: {train: [{path: a, wieght: 2}]}", "did you mean 'data.train[0].weight'"),
        ("data: {train: [{path: a, weight: 0}]}", "data.train[0].weight = 0"),
        ("data: {train: [{path: a, name: x/y}]}", "a name without slashes"),
        ("data: {train: [{path: a, labels: joint}]}", "one of separate, shared"),
        ("data: {train: [a], folder: b}", "beside the 'path'"),
        ("data: {shuffle: sometimes}", "one of full, chunks, none"),
        ("data: {images_per_identity: 4}", "'sampling: identities' beside it"),
        ("data: {sampling: identities}", "missing key 'data.images_per_identity'"),
        ("data: {sampling: identities, images_per_identity: 4, shuffle: chunks}", "data.shuffle = chunks"),
        ("data: {sampling: identities, images_per_identity: 4, train: [{path: a, weight: 2}]}", "sources have weights"),
        ("data: {sampling: identities, images_per_identity: 3}\nbatch: {global: 32}", "a divisor of batch.global"),
        (
            "data: {sampling: identities, images_per_identity: 4}\nbatch: {global: 24, accumulation: 4}",
            "batch.global / batch.accumulation = 6"
        ),
    ])
    func whatDoesNotGoTogether(_ yaml: String, _ expected: String) {
        let found = problem(yaml)
        #expect(found?.contains(expected) == true, "\(found ?? "accepted")")
    }
}
