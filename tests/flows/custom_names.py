from metaflow import FlowSpec, step


class CustomNamesFlow(FlowSpec):
    @step(start=True)
    def begin(self):
        self.x = 1
        self.next(self.finish)

    @step(end=True)
    def finish(self):
        self.x += 1


if __name__ == "__main__":
    CustomNamesFlow()
