"""What reproduction scripts share: claims and verdicts, the record, training arms, and the Vietnamese setting."""
