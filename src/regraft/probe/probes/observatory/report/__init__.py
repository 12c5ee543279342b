"""The page of Observatory: the answer in a sentence, a chart a property, every figure."""
