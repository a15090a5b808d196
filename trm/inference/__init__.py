"""From a question to an answer: engine, search, selection and the `Refiner` facade."""
