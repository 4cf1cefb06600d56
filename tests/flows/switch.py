from metaflow import FlowSpec, Parameter, step


class SwitchFlow(FlowSpec):
    '''Cases that converge, skip ahead, nest, and end at end.'''

    route = Parameter("route", default="long")

    @step
    def start(self):
        self.trace = ["start"]
        self.choice = self.route
        self.next({"long": self.detour, "short": self.meet, "leave": self.end}, condition="choice")

    @step
    def detour(self):
        self.trace = self.trace + ["detour"]
        self.kind = "y"
        self.next({"x": self.case_x, "y": self.case_y}, condition="kind")

    @step
    def case_x(self):
        self.trace = self.trace + ["case_x"]
        self.next(self.meet)

    @step
    def case_y(self):
        self.trace = self.trace + ["case_y"]
        self.next(self.case_y2)

    @step
    def case_y2(self):
        self.trace = self.trace + ["case_y2"]
        self.next(self.meet)

    @step
    def meet(self):
        self.trace = self.trace + ["meet"]
        self.next(self.end)

    @step
    def end(self):
        self.trace = self.trace + ["end"]


if __name__ == "__main__":
    SwitchFlow()
