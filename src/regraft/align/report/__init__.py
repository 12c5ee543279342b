"""Pictures that only reports about spaces show."""
