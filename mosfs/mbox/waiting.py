"""The programs of one tracer or host that wait for a message, or for room in a mailbox."""

from __future__ import annotations

from mosfs.mbox.customer import Customer, Key


class Waiting:
    def __init__(self) -> None:
        self.customers: dict[Key, Customer] = {}

    def wait(self, customer: Customer) -> None:
        """Let it wait until `wake`."""
        self.begun(customer)
        customer.wait()

    def begun(self, customer: Customer) -> None:
        """It waits already."""
        self.customers[customer.key] = customer

    def leave(self, key: Key) -> None:
        """The program waits no more."""
        self.customers.pop(key, None)

    def wake(self, key: Key) -> None:
        """Who waits, if anybody does, tries again. What becomes of that is no affair of whoever wakes it."""
        customer = self.customers.pop(key, None)
        if customer is not None:
            try:
                customer.again()
            except Exception as error:
                customer.trouble(error)

    def wake_all(self) -> None:
        for key in list(self.customers):
            self.wake(key)
